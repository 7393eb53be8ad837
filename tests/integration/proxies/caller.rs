//! A caller of a proxy under test. It sends exactly the bytes of a case, which no library would send.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// A masked text frame of a WebSocket, with the text `hello`.
const FRAME: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x5f\x9f\x4d\x51\x58";
/// No proxy takes longer for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request, as a caller writes it.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: &'static str,
    /// The path and query, or a URL of the host `HOST`, which is the address of the proxy.
    pub target: String,
    /// Header lines.
    pub lines: Vec<String>,
    pub body: &'static str,
}

/// The answer to a caller.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub fn request(method: &'static str, target: impl Into<String>) -> Request {
    Request { method, target: target.into(), lines: Vec::new(), body: "" }
}

impl Request {
    pub fn bearer(self, value: &str) -> Self {
        self.line(format!("Authorization: Bearer {value}"))
    }

    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    pub fn lines<S: Into<String>>(mut self, lines: impl IntoIterator<Item = S>) -> Self {
        self.lines.extend(lines.into_iter().map(Into::into));
        self
    }

    pub fn body(mut self, body: &'static str) -> Self {
        self.body = body;
        self
    }

    /// True if the caller asks for a WebSocket.
    pub fn upgrades(&self) -> bool {
        self.values("upgrade") == ["websocket"]
    }

    /// True if the caller sends this header. The name is in lower case.
    pub fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }

    /// All values that the caller sends of this header. The name is in lower case.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let pairs = self.lines.iter().filter_map(|line| line.split_once(':'));
        pairs.filter(|(its, _)| its.to_ascii_lowercase() == name).map(|(_, value)| value.trim()).collect()
    }

    /// The bytes of the request.
    fn bytes(&self, host: SocketAddr) -> String {
        let target = self.target.replace("HOST", &host.to_string());
        let mut head = format!("{} {target} HTTP/1.1\r\n", self.method);
        if !self.has("host") {
            head += &format!("Host: {host}\r\n");
        }
        if !self.has("connection") {
            head += "Connection: close\r\n";
        }
        if !self.body.is_empty() {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        self.lines.iter().for_each(|line| head += &format!("{line}\r\n"));
        format!("{head}\r\n{}", self.body)
    }

    /// Sends the request. If it is answered by an upgrade, sends a frame, and expects it back.
    ///
    /// `None` if there is no whole answer, because the proxy closed the connection.
    pub async fn send(&self, to: SocketAddr) -> Option<Answer> {
        self.over(TcpStream::connect(to), to).await
    }

    /// The same from another address of this machine.
    pub async fn send_from(&self, from: Ipv4Addr, to: SocketAddr) -> Option<Answer> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        self.over(socket.connect(to), to).await
    }

    async fn over(&self, stream: impl Future<Output = io::Result<TcpStream>>, to: SocketAddr) -> Option<Answer> {
        let exchange = async {
            let mut stream = stream.await.ok()?;
            // A proxy may answer before it has read everything.
            let _ = stream.write_all(self.bytes(to).as_bytes()).await;
            let answer = self.read(&mut stream).await?;
            if answer.status == 101 {
                stream.write_all(FRAME).await.unwrap();
                let mut echoed = [0; FRAME.len()];
                stream.read_exact(&mut echoed).await.unwrap();
                assert_eq!(echoed, FRAME);
            }
            Some(answer)
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| panic!("no answer to {self:?}"))
    }

    async fn read(&self, stream: &mut TcpStream) -> Option<Answer> {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes);
            let whole = text.split_once("\r\n\r\n").filter(|(head, body)| self.is_whole(head, body));
            if let Some((head, body)) = whole {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return Some(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() });
            }
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await {
                Ok(read @ 1..) => bytes.extend_from_slice(&piece[..read]),
                Ok(0) | Err(_) => {
                    let text = String::from_utf8_lossy(&bytes);
                    let (head, body) = text.split_once("\r\n\r\n")?;
                    let status = head.split(' ').nth(1)?.parse().ok()?;
                    return Some(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() });
                }
            }
        }
    }

    fn is_whole(&self, head: &str, body: &str) -> bool {
        let head = head.to_ascii_lowercase();
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let has_none = self.method == "HEAD" || ["101", "204", "304"].contains(&head.split(' ').nth(1).unwrap_or(""));
        let is_chunked = value("transfer-encoding:") == Some("chunked");
        let length = value("content-length:").and_then(|length| length.parse().ok());
        has_none || length == Some(body.len()) || is_chunked && body.ends_with("0\r\n\r\n")
    }
}

impl Answer {
    /// The value of a header of the answer, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}
