//! The client: callers with one connection each, which ask without a pause.

use std::{
    cell::RefCell,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{Outcome, grpc, objects};

/// The protocol of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// Forward authentication by HTTP/1.
    Http,
    /// External authorization of Envoy over gRPC.
    Grpc,
}

/// Connections that ask at the same time.
pub struct Callers(Vec<Caller>);

enum Caller {
    Http(HttpCaller),
    Grpc(grpc::Caller),
}

struct HttpCaller {
    stream: TcpStream,
    answer: Vec<u8>,
}

/// Answers to one load.
#[derive(Default)]
pub struct Answers {
    /// The time of each answer.
    pub times: Vec<Duration>,
    /// Number of answers with another status than expected.
    pub odd: usize,
}

impl Callers {
    pub async fn connect(address: SocketAddr, speech: Speech, count: usize) -> Outcome<Self> {
        let callers = (0..count).map(async |_| match speech {
            Speech::Http => HttpCaller::connect(address).await.map(Caller::Http),
            Speech::Grpc => grpc::Caller::connect(address).await.map(Caller::Grpc),
        });
        Ok(Self(try_join_all(callers).await?))
    }

    /// Asks with one credential after the other. Every answer should have one of `statuses`.
    pub async fn ask(&mut self, credentials: impl Iterator<Item = String>, statuses: &[&str]) -> Outcome<Answers> {
        let credentials = RefCell::new(credentials);
        let asked = self.0.iter_mut().map(async |caller| {
            let mut answers = Answers::default();
            let next = || credentials.borrow_mut().next();
            while let Some(credential) = next() {
                let (took, answered) = match caller {
                    Caller::Http(caller) => caller.ask(&credential).await?,
                    Caller::Grpc(caller) => caller.ask(&credential).await?,
                };
                answers.times.push(took);
                answers.odd += usize::from(!statuses.contains(&&*answered));
            }
            Ok::<_, Box<dyn std::error::Error>>(answers)
        });
        let mut all = Answers::default();
        for answers in try_join_all(asked).await? {
            all.times.extend(answers.times);
            all.odd += answers.odd;
        }
        Ok(all)
    }
}

impl HttpCaller {
    async fn connect(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Sends a request with this credential, and reads the whole answer. Returns its time and its status.
    async fn ask(&mut self, credential: &str) -> Outcome<(Duration, String)> {
        let (request, began) = (request(credential), Instant::now());
        self.stream.write_all(&request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err("a server closed a connection".into());
            }
            if let Some(length) = length(&self.answer)
                && self.answer.len() >= length
            {
                return Ok((began.elapsed(), String::from_utf8_lossy(&self.answer[9..12]).into_owned()));
            }
        }
    }
}

/// The length of an answer with its body. `None` if its head is not complete.
fn length(answer: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"content-length: ";
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let body = answer[..head].windows(LENGTH.len()).position(|window| window.eq_ignore_ascii_case(LENGTH));
    let digits = body.map(|at| answer[at + LENGTH.len()..].iter().take_while(|byte| byte.is_ascii_digit()));
    Some(head + digits.map_or(0, |digits| digits.fold(0, |sum, digit| 10 * sum + usize::from(digit - b'0'))))
}

/// The request of a Traefik that asks about a caller.
fn request(credential: &str) -> Vec<u8> {
    let (namespace, instance) = (objects::NAMESPACE, objects::INSTANCE);
    format!(
        "GET /v1/instances/{namespace}/{instance}/authorize HTTP/1.1\r\n\
        Host: tokenry-verifier.tokenry-system.svc\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\
        Authorization: Bearer {credential}\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Host: shop.example.com\r\n\
        X-Forwarded-Method: POST\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Uri: /eem/topics/x?key=1\r\nX-Request-Id: 443df6f7-d8e1-4bb9-81e2-9bb7946ffd85\r\n\
        Accept-Encoding: gzip\r\n\r\n"
    )
    .into_bytes()
}
