//! Addresses that a process listens at.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use tokio::net::{TcpListener, TcpSocket};

/// Maximum number of connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A listen address in the form `IP:PORT`, with an IPv6 address in brackets. `:PORT` and `[::]:PORT` mean all IPv6 and
/// IPv4 addresses. On a machine without IPv6 they mean all IPv4 addresses. Port 0 takes a free port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let whole = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
        whole.parse().map(Self).map_err(|_| "give IP:PORT, [IPv6]:PORT or :PORT".to_owned())
    }
}

impl Address {
    /// Binds the address. Callers can connect only after [`Taken::listen`]. An error names `flag`, the command-line
    /// flag of the address.
    ///
    /// # Errors
    /// Another process listens at the address, or this machine does not have the address.
    pub fn take(self, flag: &'static str) -> io::Result<Taken> {
        let socket = match bound(self.0) {
            Err(error) if self.0.ip() == Ipv6Addr::UNSPECIFIED && lacks_ipv6(&error) => {
                bound(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), self.0.port()))
            }
            bound => bound,
        };
        Ok(Taken { socket: socket.map_err(|error| cannot(self.0, flag, &error))?, flag })
    }
}

fn cannot(address: SocketAddr, flag: &str, error: &io::Error) -> io::Error {
    let told = format!("cannot listen at {address}: {error}; choose another address with {flag}");
    io::Error::new(error.kind(), told)
}

/// A bound address at which this process does not listen yet.
#[derive(Debug)]
pub struct Taken {
    socket: TcpSocket,
    flag: &'static str,
}

impl Taken {
    /// The address, with the port that the operating system chose for port 0.
    ///
    /// # Errors
    /// The operating system does not give the address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Starts to listen, so that callers can connect. Logs `what` and the URL, as in `listening on
    /// http://[::]:8080`.
    ///
    /// # Errors
    /// Another process listens at the address.
    pub fn listen(self, what: &str) -> io::Result<TcpListener> {
        self.listen_by("http", what)
    }

    /// The same for a URL of this scheme.
    ///
    /// # Errors
    /// Another process listens at the address.
    pub fn listen_by(self, scheme: &str, what: &str) -> io::Result<TcpListener> {
        let address = self.address()?;
        let listener = self.socket.listen(BACKLOG).map_err(|error| cannot(address, self.flag, &error))?;
        tracing::info!("{what} on {scheme}://{}", listener.local_addr()?);
        Ok(listener)
    }
}

/// Binds a socket. At `[::]` the socket takes IPv4 callers too, even if the machine sets `net.ipv6.bindv6only`.
fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// True if the error means that this machine has no IPv6. A kernel without IPv6 rejects the socket. A kernel with IPv6
/// switched off rejects the address.
fn lacks_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let known = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| known.iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> io::Result<Taken> {
        text.parse::<Address>().unwrap().take("--listen")
    }

    #[test]
    fn a_port_alone_means_every_address() {
        let parsed = |text: &str| text.parse::<Address>().map(|address| address.0.to_string());
        assert_eq!(parsed(":8080").unwrap(), "[::]:8080");
        assert_eq!(parsed("[::]:8080").unwrap(), "[::]:8080");
        assert_eq!(parsed("127.0.0.1:0").unwrap(), "127.0.0.1:0");
        for odd in ["8080", "::1:8080", "localhost:8080", ":port", ""] {
            assert_eq!(parsed(odd).unwrap_err(), "give IP:PORT, [IPv6]:PORT or :PORT", "{odd}");
        }
    }

    #[tokio::test]
    async fn what_listens_everywhere_is_reached_over_both_families() {
        let taken = taken(":0").unwrap();
        let port = taken.address().unwrap().port();
        let _listener = taken.listen("listening").unwrap();
        for host in ["127.0.0.1", "::1"] {
            let reached = tokio::net::TcpStream::connect((host, port)).await;
            reached.unwrap_or_else(|error| panic!("{host}: {error}"));
        }
    }

    #[tokio::test]
    async fn nobody_connects_before_it_listens_and_a_taken_address_is_an_error_that_names_the_flag() {
        let first = taken("127.0.0.1:0").unwrap();
        let address = first.address().unwrap();
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
        let _listener = first.listen("listening").unwrap();
        assert!(tokio::net::TcpStream::connect(address).await.is_ok());
        let refused = taken(&address.to_string()).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("cannot listen at {address}: ")), "{refused}");
        assert!(refused.ends_with("; choose another address with --listen"), "{refused}");
    }

    #[tokio::test]
    async fn who_listens_second_at_an_address_is_told_as_well() {
        let first = taken("127.0.0.1:0").unwrap();
        let second = taken(&first.address().unwrap().to_string()).unwrap();
        let _listener = first.listen("listening").unwrap();
        let refused = second.listen("listening").unwrap_err().to_string();
        assert!(refused.starts_with("cannot listen at ") && refused.ends_with("--listen"), "{refused}");
    }

    #[test]
    fn a_machine_without_ipv6_is_told_from_an_address_that_is_taken() {
        use rustix::io::Errno;
        for (errno, lacks) in [(Errno::AFNOSUPPORT, true), (Errno::ADDRNOTAVAIL, true), (Errno::ADDRINUSE, false)] {
            assert_eq!(lacks_ipv6(&errno.into()), lacks);
        }
    }
}
