//! The requests that every proxy is tried with, and the outcome of each.

use super::{
    backend::CASE,
    caller::{Request, request},
    program::{
        Sees::{self, Invalid, Missing, Nobody, Refused, Served},
        Who::{Admin, New, Old, Viewer},
    },
    setting::{ORGANIZATION, Tokens},
};
use crate::harness::api::IDENTITY;

/// The value of all that a caller forges. It never reaches the API.
pub const FORGED: &str = "forged";

/// A request, and the outcome behind a proxy that passes everything on as it is.
pub struct Case {
    /// The name, in the matrix and in the headers of the request.
    pub name: &'static str,
    pub request: Request,
    pub sees: Sees,
}

/// All cases. The name of each is its own.
pub fn cases(tokens: &Tokens) -> Vec<Case> {
    let all = [
        allowed(tokens),
        login(tokens),
        refused(tokens),
        spoofed(tokens),
        connection(tokens),
        forwarded(tokens),
        open_paths(),
        shut_paths(tokens),
    ];
    let mut cases: Vec<Case> = all.into_iter().flatten().collect();
    for case in &mut cases {
        case.request.lines.push(format!("{CASE}: {}", case.name));
        if !case.request.has(ORGANIZATION) {
            case.request.lines.push(format!("{ORGANIZATION}: acme"));
        }
    }
    cases
}

fn case(name: &'static str, request: Request, sees: Sees) -> Case {
    Case { name, request, sees }
}

fn orders(value: &str) -> Request {
    request("GET", "/orders?page=2").bearer(value)
}

fn allowed(tokens: &Tokens) -> Vec<Case> {
    let websocket = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
    let websocket =
        request("GET", "/orders/stream").lines(websocket).line("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==");
    // The API would upgrade. Nobody would judge the requests that follow.
    let h2c = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"];
    let post = request("POST", "/orders").line("Content-Type: application/json").body(r#"{"item": "tea"}"#);
    let preflight = request("OPTIONS", "/orders").line("Origin: https://console.shop.example.com");
    let preflight = preflight.line("Access-Control-Request-Method: DELETE");
    vec![
        case("GET", orders(&tokens.admin), Served(Admin)),
        case("GET of a viewer", orders(&tokens.viewer), Served(Viewer)),
        case("Api-Token", request("GET", "/orders").line(format!("Api-Token: {}", tokens.admin)), Served(Admin)),
        case("POST with a body", post.bearer(&tokens.admin), Served(Admin)),
        case("HEAD", request("HEAD", "/orders").bearer(&tokens.admin), Served(Admin)),
        case("DELETE", request("DELETE", "/orders/1").bearer(&tokens.admin), Served(Admin)),
        case("WebSocket", websocket.clone().bearer(&tokens.admin), Served(Admin)),
        case("WebSocket without a token", websocket, Missing),
        case("an upgrade to HTTP/2", orders(&tokens.admin).lines(h2c), Served(Admin)),
        case("an upgrade to HTTP/2 at a login", request("GET", "/login").lines(h2c), Nobody),
        case(
            "another upgrade",
            orders(&tokens.admin).lines(["Connection: Upgrade", "Upgrade: TLS/1.0"]),
            Served(Admin),
        ),
        case(
            "an upgrade with letters of WebSocket",
            orders(&tokens.admin).lines(["Connection: Upgrade", "Upgrade: echo"]),
            Served(Admin),
        ),
        case("two upgrades", orders(&tokens.admin).lines(h2c).line("Upgrade: websocket"), Served(Admin)),
        case("preflight", preflight, Nobody),
        case("overlap, old value", orders(&tokens.old), Served(Old)),
        case("overlap, new value", orders(&tokens.new), Served(New)),
        case("Token", request("GET", "/orders").line(format!("Authorization: Token {}", tokens.admin)), Served(Admin)),
        case(
            "Api-Key",
            request("GET", "/orders").line(format!("authorization: api-key {}", tokens.admin)),
            Served(Admin),
        ),
    ]
}

/// A login, which needs no token, and at which a token is refused.
fn login(tokens: &Tokens) -> Vec<Case> {
    let (get, basic) = (|| request("GET", "/login"), "Authorization: Basic dTpw");
    vec![
        case("login", request("GET", "/login?next=/orders"), Nobody),
        case("login by POST", request("POST", "/login/form").body("user=u"), Nobody),
        case("login with a password", request("POST", "/login/form").line(basic), Nobody),
        case("login with another token", get().bearer("a.b.c"), Nobody),
        case("login with a guessed token", get().bearer("tkn_guessed"), Nobody),
        case("login with a revoked token", get().bearer(&tokens.revoked), Invalid),
        case("login with a token", get().bearer(&tokens.admin), Refused(403)),
        case("login with a password and a token", get().line(basic).bearer(&tokens.admin), Invalid),
        case("login by DELETE", request("DELETE", "/login"), Missing),
        case("a password elsewhere", request("GET", "/orders").line(basic), Missing),
        case("login with another method", request("POST", "/login").line("X-HTTP-Method-Override: DELETE"), Missing),
        case("login with another method in the query", request("POST", "/login?_method=DELETE"), Missing),
    ]
}

fn refused(tokens: &Tokens) -> Vec<Case> {
    let (admin, api_token) = (&tokens.admin, format!("Api-Token: {}", tokens.admin));
    let post = request("POST", "/orders").body("{}");
    vec![
        case("no token", request("GET", "/orders"), Missing),
        case("bad", orders("tkn_guessed"), Invalid),
        case("expired", orders(&tokens.expired), Invalid),
        case("revoked", orders(&tokens.revoked), Invalid),
        case("suspended", orders(&tokens.suspended), Invalid),
        case("wrong role", post.bearer(&tokens.viewer), Refused(403)),
        case("excluded", request("GET", "/console/keys").bearer(admin), Refused(403)),
        case("two credentials", orders(admin).line(api_token), Invalid),
        case("a credential twice", orders(admin).bearer(admin), Invalid),
        case("two values in one header", orders(&format!("{admin}, Bearer {admin}")), Invalid),
        case("another organization", orders(admin).line("X-Organization: other"), Refused(403)),
        case("a path in the query", request("POST", "/orders?back=/orders").bearer(&tokens.viewer), Refused(403)),
        case("a slash in the query", request("POST", "/orders?/").bearer(&tokens.viewer), Refused(403)),
        case("the test of the guard without a token", request("POST", "/.tokenry/probe?a"), Missing),
        case("the test of the guard", request("GET", "/.tokenry/probe").bearer(admin), Missing),
        case("a mode that the caller names", request("GET", "/orders?mode=nginx"), Missing),
    ]
}

/// Identity headers of the caller.
fn spoofed(tokens: &Tokens) -> Vec<Case> {
    let exact = || IDENTITY.map(|name| format!("{name}: {FORGED}"));
    let upper = IDENTITY.map(|name| format!("{}: {FORGED}", name.to_uppercase()));
    // Each dash alone, and all of them.
    let aliases = |mark: &str| {
        let one = |name: &str, at: usize| format!("{}{mark}{}", &name[..at], &name[at + 1..]);
        let each = IDENTITY.into_iter().flat_map(|name| name.match_indices('-').map(move |(at, _)| (name, at)));
        let each: Vec<_> = each.map(|(name, at)| format!("{}: {FORGED}", one(name, at))).collect();
        each.into_iter().chain(IDENTITY.map(|name| format!("{}: {FORGED}", name.replace('-', mark))))
    };
    let admin = &tokens.admin;
    vec![
        case("spoofed without a token", request("GET", "/orders").lines(exact()), Missing),
        case("spoofed where unguarded", request("GET", "/login").lines(exact()), Nobody),
        case("spoofed", orders(admin).lines(exact()), Served(Admin)),
        case("spoofed in upper case", orders(admin).lines(upper), Served(Admin)),
        case("spoofed twice", orders(admin).lines(exact()).lines(exact()), Served(Admin)),
        case("spoofed by underscores", orders(admin).lines(aliases("_")), Served(Admin)),
        case("spoofed by underscores where unguarded", request("GET", "/login").lines(aliases("_")), Nobody),
        case("spoofed by dots", orders(admin).lines(aliases(".")), Served(Admin)),
        case("spoofed by underscores without a token", request("GET", "/orders").lines(aliases("_")), Missing),
    ]
}

/// Headers that the caller names in `Connection`, so that a proxy takes them off.
fn connection(tokens: &Tokens) -> Vec<Case> {
    let all = format!("Connection: close, {}", IDENTITY.join(", "));
    let orders = || orders(&tokens.admin);
    let forged = IDENTITY.map(|name| format!("{name}: {FORGED}"));
    let trace = "Connection: close, X-Forwarded-Uri, X-Forwarded-Method";
    let close = "Connection: close, X-Tokenry-Role";
    let upgrade = "Connection: Upgrade, X-Tokenry-Role";
    let keep = "Connection: keep-alive, Connection, X-Tokenry-Role";
    let odd = r#"Connection: X-Tokenry-*, X_Tokenry_Role, "X-Tokenry-Role""#;
    let spoofed = request("GET", "/login").lines(forged.clone()).line(all.clone());
    vec![
        case("named in Connection", orders().line(all.clone()), Served(Admin)),
        case("spoofed and named in Connection", orders().lines(forged).line(all.clone()), Served(Admin)),
        case("named in Connection where unguarded", spoofed, Nobody),
        case("named in Connection without a token", request("GET", "/orders").line(all), Missing),
        case("one named in Connection", orders().line("connection: x-forwarded-user"), Served(Admin)),
        case(
            "two named in Connection",
            orders().line("CONNECTION:  X-TOKENRY-SUBJECT ,\tx-tokenry-token-id,,"),
            Served(Admin),
        ),
        case("named in a second Connection", orders().lines([close, "connection: X-Tokenry-Subject"]), Served(Admin)),
        case("named beside an upgrade", orders().lines([upgrade, "Upgrade: websocket"]), Served(Admin)),
        case("named beside TE", orders().lines(["Connection: TE, X-Tokenry-Role", "TE: trailers"]), Served(Admin)),
        case("named beside keep-alive", orders().lines([keep, "Keep-Alive: timeout=5"]), Served(Admin)),
        case("named oddly", orders().line(odd), Served(Admin)),
        case("named in Proxy-Connection", orders().line("Proxy-Connection: X-Tokenry-Role"), Served(Admin)),
        case("Authorization named in Connection", orders().line("Connection: close, Authorization"), Missing),
        case("the request named in Connection", request("DELETE", "/orders").line(trace), Missing),
    ]
}

/// Headers in which proxies name the request.
fn forwarded(tokens: &Tokens) -> Vec<Case> {
    let login = ["X-Forwarded-Method: GET", "X-Forwarded-Uri: /login"];
    let post = || request("POST", "/orders").bearer(&tokens.viewer).body("{}");
    let reads = ["X-Forwarded-Method: GET", "X-Forwarded-Uri: /orders"];
    let others =
        ["X-Original-URL: /login", "X-Original-URI: /login", "X-Rewrite-URL: /login", "X-Original-Method: GET"];
    let origin = ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"];
    let origin = origin.map(|name| format!("{name}: {FORGED}"));
    vec![
        case("X-Forwarded-Uri without a token", request("GET", "/orders").lines(login), Missing),
        case("X-Forwarded-Uri twice", request("GET", "/orders").lines(login).lines(login), Missing),
        case(
            "x_forwarded_uri",
            request("GET", "/orders").lines(["x_forwarded_method: GET", "x_forwarded_uri: /login"]),
            Missing,
        ),
        case("X-Original-URL without a token", request("GET", "/orders").lines(others), Missing),
        case("X-Forwarded-Method of a viewer", post().lines(reads), Refused(403)),
        case(
            "X-Forwarded-Uri to an exclusion",
            request("GET", "/console").bearer(&tokens.admin).lines(reads),
            Refused(403),
        ),
        case(
            "X-Original-URL with a token",
            orders(&tokens.admin).line(format!("X-Original-URL: /{FORGED}")),
            Served(Admin),
        ),
        case("X-Forwarded-For and others", orders(&tokens.admin).lines(origin), Served(Admin)),
        case(
            "a part of the path named in headers",
            orders(&tokens.admin).lines(["Script-Name: /orders", "X-Script-Name: /orders", "Path-Info: /console"]),
            Refused(403),
        ),
        case("a part of the path named at a login", request("GET", "/login").line("Script-Name: /login"), Missing),
        case(
            "X-Forwarded-Uri at a login",
            request("GET", "/login").line(format!("X-Forwarded-Uri: /{FORGED}")),
            Nobody,
        ),
        case("X.HTTP-Method of a viewer", orders(&tokens.viewer).line("X.HTTP-Method: DELETE"), Refused(403)),
        case("X.Organization", orders(&tokens.admin).line("X.Organization: other"), Refused(403)),
    ]
}

/// Paths that servers read differently. Without a token only `/login` and below may be reached.
fn open_paths() -> Vec<Case> {
    let long = format!("/login/{}", "a".repeat(4000));
    let same = [
        "/%6Cogin",
        "/Login",
        "//login",
        "/./login",
        "/orders/../login",
        "/login/../orders",
        "/login/%2e%2e/orders",
        "/login/..%2Forders",
        "/login%2Fform",
        "/login;x",
        "/login;x/../../orders",
        "/login%3B/../orders",
        "/login/..\\orders",
        "/login/..%5Corders",
        "/login%00",
        "/login%0A",
        "/orders?/login",
        "/orders#/login",
        "/orders%3F/../login",
    ];
    let same = same.map(|path| case(path, request("GET", path), Missing));
    let others = [
        case("a long path", request("GET", long), Nobody),
        case("a URL", request("GET", "http://HOST/login"), Nobody),
        case("a URL of another path", request("GET", "http://HOST/orders"), Missing),
        case("a target without a slash", request("GET", "login"), Refused(400)),
    ];
    same.into_iter().chain(others).collect()
}

/// Paths of an exclusion, as no server may read them with a token. The caller names another request in headers, too.
fn shut_paths(tokens: &Tokens) -> Vec<Case> {
    let all = [
        "/console",
        "/Console/keys/",
        "//console//keys",
        "/./console/keys",
        "/orders/../console",
        "/orders/%2e%2e/console",
        "/orders/..%2fconsole",
        "/orders/%2e%2e%2fconsole",
        "/c%6Fnsole;a=b/x",
        "/console%2Fkeys",
        "/console%00",
        "/orders/..\\console",
        "/console?back=/orders",
        "/console/keys?/orders",
    ];
    let other = ["X-Forwarded-Method: GET", "X-Forwarded-Uri: /orders"];
    all.map(|path| case(path, request("GET", path).bearer(&tokens.admin).lines(other), Refused(403))).into()
}
