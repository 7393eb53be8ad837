//! The proxy in front of the API server, chosen as kubectl chooses it (Go's `net/http`), and the client that uses the
//! proxy.
//!
//! kube's own choice differs from kubectl's. kube compares `NO_PROXY` with the proxy's address, even for the
//! `proxy-url` of a kubeconfig. It fails on a list with an empty item. Inside a cluster it ignores the environment.

use std::{error::Error, fmt, io, net::IpAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{
        self,
        connect::{
            Connection, HttpConnector,
            proxy::{SocksV5, Tunnel},
        },
    },
    rt::TokioExecutor,
};
use ipnet::IpNet;
use kube::{
    Client, Config,
    client::{Body, ConfigExt},
};
use percent_encoding::percent_decode_str;
use tower::{BoxError, Service, ServiceBuilder};

use super::refusal::with_causes;

const SOCKS: &str = "socks5";
/// The scheme of a proxy behind TLS.
const TLS: &str = "https";
/// The begin of a library's error about a certificate.
const DISTRUST: &str = "invalid peer certificate";
/// The default port of an API server, and of a proxy behind TLS.
const HTTPS: u16 = 443;

/// A proxy for connections to the API server. Its password is never printed.
#[derive(Clone, PartialEq)]
pub(crate) struct Proxy {
    /// Scheme, host and port.
    at: Uri,
    user: Option<(String, String)>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.at.to_string().trim_end_matches('/'))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Proxy {
    /// The proxy for `server`: the `configured` one, or else `HTTPS_PROXY` of the environment. `NO_PROXY` applies only
    /// to the latter. A server without TLS uses no proxy of the environment.
    ///
    /// # Errors
    /// The chosen proxy cannot be used.
    pub(crate) fn before(
        server: &Uri,
        configured: Option<&str>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, String> {
        if let Some(url) = configured.filter(|url| !url.is_empty()) {
            return Self::parse(url).map(Some).map_err(|wrong| format!("proxy-url of the kubeconfig {wrong}"));
        }
        let said = |names: [&str; 2]| names.into_iter().filter_map(&environment).find(|value| !value.is_empty());
        let Some(url) = said(["HTTPS_PROXY", "https_proxy"]).filter(|_| server.scheme_str() == Some("https")) else {
            return Ok(None);
        };
        if goes_round(server, &said(["NO_PROXY", "no_proxy"]).unwrap_or_default()) {
            return Ok(None);
        }
        Self::parse(&url).map(Some).map_err(|wrong| format!("HTTPS_PROXY {wrong}"))
    }

    /// Parses a URL, which may contain a user name and a password. The default scheme is `http`.
    fn parse(url: &str) -> Result<Self, String> {
        let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let unreadable = || "cannot be read: give a URL such as http://proxy.example.com:3128".to_owned();
        let uri: Uri = whole.parse().map_err(|_| unreadable())?;
        let (scheme, port) = match uri.scheme_str() {
            Some("http") => ("http", 80),
            Some(TLS) => (TLS, HTTPS),
            Some("socks5" | "socks5h") => (SOCKS, 1080),
            _ => {
                let told =
                    "is of a kind that is not supported: give one that begins with http://, https:// or socks5://";
                return Err(told.to_owned());
            }
        };
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(unreadable)?;
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (plain(name), plain(password))
        });
        let place = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(port));
        let at = Uri::builder().scheme(scheme).authority(place).path_and_query("/").build();
        Ok(Self { at: at.map_err(|_| unreadable())?, user })
    }

    /// A client that connects through this proxy.
    ///
    /// # Errors
    /// `config` cannot be used for a client.
    pub(crate) fn client(&self, config: Config) -> Result<Client, kube::Error> {
        let mut direct = HttpConnector::new();
        direct.enforce_http(false);
        let (at, user) = (self.at.clone(), self.user.clone());
        match at.scheme_str() {
            Some(SOCKS) => {
                let socks = SocksV5::new(at, direct);
                self.through(user.into_iter().fold(socks, |socks, (name, word)| socks.with_auth(name, word)), config)
            }
            Some(TLS) => {
                // Without a CA of its own, such a configuration trusts the roots of the system, or `SSL_CERT_FILE`. Go
                // would trust the CA of the cluster alone.
                let secured = Config::new(at).rustls_https_connector_with_connector(direct)?;
                self.through(self.tunnel(ServiceBuilder::new().map_err(untrusted).service(secured)), config)
            }
            _ => self.through(self.tunnel(direct), config),
        }
    }

    /// The proxy as a connector, which `way` leads to.
    fn tunnel<C>(&self, way: C) -> Tunnel<C> {
        let basic = self.user.as_ref().and_then(|(name, password)| {
            let mut value =
                HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        basic.into_iter().fold(Tunnel::new(self.at.clone(), way), Tunnel::with_auth)
    }

    /// kube's own client, over this connector.
    fn through<C>(&self, connector: C, config: Config) -> Result<Client, kube::Error>
    where
        C: Service<Uri, Error: Error + Send + Sync, Future: Send> + Clone + Send + Sync + 'static,
        C::Response: Connection + hyper::rt::Read + hyper::rt::Write + Send + Unpin,
    {
        let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(connector)?);
        connector.set_connect_timeout(config.connect_timeout);
        connector.set_read_timeout(config.read_timeout);
        connector.set_write_timeout(config.write_timeout);
        let place = self.to_string();
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer()?)
            .layer(config.extra_headers_layer()?)
            .map_err(move |error| BoxError::from(format!("through the proxy {place}: {}", with_causes(&error))))
            .service(legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(connector));
        Ok(Client::new(service, config.default_namespace))
    }
}

/// The error of a connection to a proxy behind TLS. The connector has an error of input and output for TLS alone.
fn untrusted(error: BoxError) -> BoxError {
    match error.downcast::<io::Error>() {
        Ok(error) => {
            let why = with_causes(&*error);
            let help = match why.contains(DISTRUST) {
                true => "a root of the system, or of SSL_CERT_FILE, has to sign its certificate",
                false => "if it speaks no TLS, give a URL that begins with http://",
            };
            format!("TLS with it failed: {why}; {help}").into()
        }
        Err(other) => other,
    }
}

/// True if `list`, the value of `NO_PROXY`, covers `server`. The local machine is always covered.
fn goes_round(server: &Uri, list: &str) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']).to_lowercase();
    let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    let port = server.port_u16().unwrap_or(HTTPS);
    list.split(',').any(|item| covers(item.trim(), &host, address, port))
}

/// True if an item of `NO_PROXY` covers a host. `domain` covers the domain and its subdomains, `.domain` the subdomains
/// alone. An address covers itself, a network its addresses, and `*` every host. A domain or an address may have a
/// port. Without a port it covers every port.
fn covers(item: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if item == "*" {
        return true;
    }
    if let Ok(network) = item.parse::<IpNet>() {
        return address.is_some_and(|address| network.contains(&address));
    }
    let (name, wanted) = match item.rsplit_once(':') {
        Some((name, wanted)) if !name.contains(':') || name.ends_with(']') => (name, Some(wanted)),
        _ => (item, None),
    };
    let (name, port) = (name.trim_matches(['[', ']']).to_lowercase(), port.to_string());
    if name.is_empty() || wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    if let Ok(named) = name.parse::<IpAddr>() {
        return address == Some(named.to_canonical());
    }
    match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
        Some(domain) => below(host, domain),
        None => host == name || below(host, &name),
    }
}

fn below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(server: &str, configured: Option<&str>, environment: &[(&str, &str)]) -> Result<Option<String>, String> {
        let said = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let found = Proxy::before(&server.parse().unwrap(), configured, said)?;
        Ok(found.map(|proxy| proxy.to_string()))
    }

    #[test]
    fn a_list_covers_hosts_as_it_does_for_kubectl() {
        for (list, covered, others) in [
            ("*", &["a.example.com", "192.0.2.1", "[2001:db8::1]"][..], &[][..]),
            (
                "example.com",
                &["example.com", "a.example.com", "EXAMPLE.com"],
                &["badexample.com", "example.com.evil.com"],
            ),
            (".example.com", &["a.example.com", "b.a.example.com"], &["example.com", "aexample.com"]),
            ("*.example.com", &["a.example.com"], &["example.com"]),
            ("example.com:6443", &["example.com:6443", "a.example.com:6443"], &["example.com", "example.com:443"]),
            ("example.com:443", &["example.com", "example.com:443"], &["example.com:6443"]),
            ("192.0.2.1", &["192.0.2.1", "192.0.2.1:6443"], &["192.0.2.10", "a.192.0.2.1"]),
            ("192.0.2.1:6443", &["192.0.2.1:6443"], &["192.0.2.1"]),
            ("192.0.2.0/24", &["192.0.2.1:6443"], &["192.0.3.1", "a.example.com"]),
            ("2001:db8::/32", &["[2001:db8::1]:6443"], &["[2001:db9::1]"]),
            ("2001:db8::1", &["[2001:db8::1]", "[2001:db8:0::1]:6443"], &["[2001:db8::2]"]),
            ("[2001:db8::1]:6443", &["[2001:db8::1]:6443"], &["[2001:db8::1]"]),
            (" a.com , ,b.com,", &["a.com", "x.b.com"], &["c.com"]),
            // The local machine is always covered.
            (
                "",
                &["localhost:6443", "127.0.0.1:6443", "127.8.8.8", "[::1]"],
                &["localhost.example.com", "example.com"],
            ),
        ] {
            let round = |host: &&&str| goes_round(&format!("https://{host}").parse().unwrap(), list);
            assert!(covered.iter().all(|host| round(&host)), "{list}: {covered:?}");
            assert!(!others.iter().any(|host| round(&host)), "{list}: {others:?}");
        }
    }

    #[test]
    fn the_kubeconfig_comes_before_the_environment_and_is_not_gone_round() {
        const SERVER: &str = "https://api.example.com:6443";
        let of = |environment: &[(&str, &str)]| before(SERVER, None, environment).unwrap();
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("HTTPS_PROXY", "proxy:3128")]).as_deref(), Some("http://proxy:3128"));
        assert_eq!(of(&[("https_proxy", "http://proxy")]).as_deref(), Some("http://proxy:80"));
        assert_eq!(of(&[("https_proxy", "https://proxy")]).as_deref(), Some("https://proxy:443"));
        assert_eq!(
            of(&[("HTTPS_PROXY", ""), ("https_proxy", "socks5h://proxy")]).as_deref(),
            Some("socks5://proxy:1080")
        );
        assert_eq!(of(&[("HTTPS_PROXY", "a:1"), ("https_proxy", "b:1")]).as_deref(), Some("http://a:1"));
        assert_eq!(of(&[("HTTP_PROXY", "a:1")]), None);
        assert_eq!(of(&[("HTTPS_PROXY", "a:1"), ("no_proxy", "example.com")]), None);
        // `NO_PROXY` is compared with the server, not with the proxy.
        assert_eq!(
            of(&[("HTTPS_PROXY", "a.example.org:1"), ("NO_PROXY", "example.org")]).as_deref(),
            Some("http://a.example.org:1")
        );
        let all = [("HTTPS_PROXY", "a:1"), ("NO_PROXY", "*")];
        assert_eq!(before(SERVER, Some("http://mine:8080"), &all).unwrap().as_deref(), Some("http://mine:8080"));
        assert_eq!(
            before("https://127.0.0.1:6443", Some("mine:8080"), &all).unwrap().as_deref(),
            Some("http://mine:8080")
        );
        assert_eq!(before(SERVER, Some(""), &all[..1]).unwrap().as_deref(), Some("http://a:1"));
        assert_eq!(before("http://api.example.com", None, &all[..1]).unwrap(), None);
    }

    #[test]
    fn a_password_is_used_and_not_shown() {
        let proxy = Proxy::parse("http://al%40ice:pa%3Ass@proxy.example.com:3128").unwrap();
        assert_eq!(proxy.user, Some(("al@ice".into(), "pa:ss".into())));
        assert_eq!(format!("{proxy} {proxy:?}"), ["http://proxy.example.com:3128"; 2].join(" "));
        for (url, told) in [
            (
                "ftp://alice:hidden@proxy",
                "HTTPS_PROXY is of a kind that is not supported: give one that begins with http://, https:// or socks5://",
            ),
            (
                "http://alice:hid den@proxy",
                "HTTPS_PROXY cannot be read: give a URL such as http://proxy.example.com:3128",
            ),
            ("http://alice:hidden@", "HTTPS_PROXY cannot be read: give a URL such as http://proxy.example.com:3128"),
        ] {
            assert_eq!(before("https://api", None, &[("HTTPS_PROXY", url)]).unwrap_err(), told);
        }
        let told = before("https://api", Some("ftp://hidden@proxy"), &[]).unwrap_err();
        assert_eq!(
            told,
            "proxy-url of the kubeconfig is of a kind that is not supported: give one that begins with http://, https:// \
             or socks5://"
        );
    }
}
