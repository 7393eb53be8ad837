//! A proxy that opens connections for its clients, by HTTP CONNECT or SOCKS5.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// The requested address of each connection, and the header `Proxy-Authorization`, if there was one.
pub type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// The protocol of the proxy.
#[derive(Clone, Copy)]
pub enum Protocol {
    Connect,
    Socks,
}

/// Starts a proxy. Returns its address, and the list of requests that it will receive.
pub async fn start(protocol: Protocol) -> (String, Asked) {
    let (address, asked, _) = cuttable(protocol).await;
    (address, asked)
}

/// Starts a proxy that takes each request for a bad one. Returns its address.
pub async fn speechless() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            let _ = caller.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    address
}

/// Starts a proxy that cuts its connections when it is notified. Returns its address, and the list of requests that it
/// will receive.
pub async fn cuttable(protocol: Protocol) -> (String, Asked, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked, cut) = (listener.local_addr().unwrap().to_string(), Asked::default(), Arc::new(Notify::new()));
    let (heard, ended) = (asked.clone(), cut.clone());
    tokio::spawn(async move {
        while let Ok((caller, _)) = listener.accept().await {
            let (heard, ended) = (heard.clone(), ended.clone());
            tokio::spawn(async move {
                tokio::select! {
                    _ = serve(protocol, caller, heard) => {}
                    () = ended.notified() => {}
                }
            });
        }
    });
    (address, asked, cut)
}

/// Starts a proxy for HTTP CONNECT behind TLS, with this certificate and key as PEM. Returns its port, and the list of
/// requests that it will receive.
pub async fn secured((certificate, key): (String, String)) -> (u16, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Asked::default());
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
    let heard = asked.clone();
    tokio::spawn(async move {
        while let Ok((caller, _)) = listener.accept().await {
            let (acceptor, heard) = (acceptor.clone(), heard.clone());
            tokio::spawn(async move { serve(Protocol::Connect, acceptor.accept(caller).await?, heard).await });
        }
    });
    (port, asked)
}

/// Stops a proxy and lets it continue. A stopped proxy keeps its connections, and passes nothing on.
#[derive(Clone)]
pub struct Valve(watch::Sender<bool>);

impl Valve {
    pub fn shut(&self) {
        self.0.send_replace(true);
    }

    pub fn open(&self) {
        self.0.send_replace(false);
    }
}

/// Starts a proxy that a valve stops. Returns its address.
pub async fn stoppable(protocol: Protocol) -> (String, Valve) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, valve) = (listener.local_addr().unwrap().to_string(), Valve(watch::Sender::new(false)));
    let shut = valve.0.subscribe();
    tokio::spawn(async move {
        while let Ok((caller, _)) = listener.accept().await {
            let mut shut = shut.clone();
            tokio::spawn(async move {
                let mut served = Box::pin(serve(protocol, caller, Asked::default()));
                loop {
                    let is_shut = shut.clone();
                    tokio::select! {
                        biased;
                        () = is_true(is_shut) => drop(shut.wait_for(|shut| !shut).await),
                        _ = &mut served => break,
                    }
                }
            });
        }
    });
    (address, valve)
}

/// The connection of a client.
trait Caller: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Caller for S {}

async fn is_true(mut value: watch::Receiver<bool>) {
    let _ = value.wait_for(|value| *value).await;
}

async fn serve(protocol: Protocol, mut caller: impl Caller, heard: Asked) -> io::Result<()> {
    let (place, proof) = match protocol {
        Protocol::Connect => connect(&mut caller).await?,
        Protocol::Socks => (socks(&mut caller).await?, None),
    };
    heard.lock().unwrap().push((place.clone(), proof));
    let mut server = TcpStream::connect(&place).await?;
    let done: &[u8] = match protocol {
        Protocol::Connect => b"HTTP/1.1 200 OK\r\n\r\n",
        Protocol::Socks => &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
    };
    caller.write_all(done).await?;
    copy_bidirectional(&mut caller, &mut server).await.map(|_| ())
}

/// Reads the head of a CONNECT request. Returns the address and the header `Proxy-Authorization`.
async fn connect(caller: &mut impl Caller) -> io::Result<(String, Option<String>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(caller.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let place = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).expect("a CONNECT request");
    let proof = head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: "));
    Ok((place.to_owned(), proof.map(str::to_owned)))
}

/// Does the handshake of SOCKS5 (RFC 1928), and returns the requested IPv4 address and port.
async fn socks(caller: &mut impl Caller) -> io::Result<String> {
    let methods = {
        caller.read_u8().await?;
        caller.read_u8().await?
    };
    caller.read_exact(&mut vec![0; methods.into()]).await?;
    caller.write_all(&[5, 0]).await?;
    let mut request = [0; 4];
    caller.read_exact(&mut request).await?;
    assert_eq!(request, [5, 1, 0, 1], "a connection to an IPv4 address");
    let mut address = [0; 4];
    caller.read_exact(&mut address).await?;
    Ok(format!("{}:{}", std::net::Ipv4Addr::from(address), caller.read_u16().await?))
}
