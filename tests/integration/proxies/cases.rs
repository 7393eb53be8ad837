//! The requests that every proxy is tried with, and the outcome of each.

use super::{
    caller::{Request, request},
    program::{
        Sees::{self, Nobody, Refused, Served},
        Who::{Admin, New, Old, Viewer},
    },
    setting::Tokens,
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
    let all = [allowed(tokens), refused(tokens), spoofed(tokens), connection(tokens), forwarded(tokens), paths(tokens)];
    let mut cases: Vec<Case> = all.into_iter().flatten().collect();
    cases.iter_mut().for_each(|case| case.request.lines.push(format!("{}: {}", super::backend::CASE, case.name)));
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
        case("WebSocket without a token", websocket, Refused(401)),
        case("preflight", preflight, Nobody),
        case("overlap, old value", orders(&tokens.old), Served(Old)),
        case("overlap, new value", orders(&tokens.new), Served(New)),
        case("unguarded", request("GET", "/login?next=/orders"), Nobody),
        case("unguarded POST", request("POST", "/login/form").body("user=u"), Nobody),
    ]
}

fn refused(tokens: &Tokens) -> Vec<Case> {
    let (admin, api_token) = (&tokens.admin, format!("Api-Token: {}", tokens.admin));
    let post = request("POST", "/orders").body("{}");
    vec![
        case("no token", request("GET", "/orders"), Refused(401)),
        case("bad", orders("tkn_guessed"), Refused(401)),
        case("expired", orders(&tokens.expired), Refused(401)),
        case("revoked", orders(&tokens.revoked), Refused(401)),
        case("suspended", orders(&tokens.suspended), Refused(401)),
        case("wrong role", post.bearer(&tokens.viewer), Refused(403)),
        case("excluded", request("GET", "/console/keys").bearer(admin), Refused(403)),
        case("two credentials", orders(admin).line(api_token), Refused(401)),
        case("a credential twice", orders(admin).bearer(admin), Refused(401)),
        case("two values in one header", orders(&format!("{admin}, Bearer {admin}")), Refused(401)),
        case("unguarded with a bad token", request("GET", "/login").bearer("tkn_guessed"), Nobody),
        case("unguarded with a revoked token", request("GET", "/login").bearer(&tokens.revoked), Refused(401)),
        case("other method where unguarded", request("DELETE", "/login"), Refused(401)),
        case("method override", request("POST", "/login").line("X-HTTP-Method-Override: DELETE"), Refused(401)),
        case("the test of the guard", request("GET", "/.tokenry/probe").bearer(admin), Refused(401)),
        case("a mode that the caller names", request("GET", "/orders?mode=nginx"), Refused(401)),
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
        case("spoofed without a token", request("GET", "/orders").lines(exact()), Refused(401)),
        case("spoofed where unguarded", request("GET", "/login").lines(exact()), Nobody),
        case("spoofed", orders(admin).lines(exact()), Served(Admin)),
        case("spoofed in upper case", orders(admin).lines(upper), Served(Admin)),
        case("spoofed twice", orders(admin).lines(exact()).lines(exact()), Served(Admin)),
        case("spoofed by underscores", orders(admin).lines(aliases("_")), Served(Admin)),
        case("spoofed by underscores where unguarded", request("GET", "/login").lines(aliases("_")), Nobody),
        case("spoofed by dots", orders(admin).lines(aliases(".")), Served(Admin)),
        case("spoofed by underscores without a token", request("GET", "/orders").lines(aliases("_")), Refused(401)),
    ]
}

/// Headers that the caller names in `Connection`, so that a proxy takes them off.
fn connection(tokens: &Tokens) -> Vec<Case> {
    let all = format!("Connection: close, {}", IDENTITY.join(", "));
    let orders = || orders(&tokens.admin);
    let forged = IDENTITY.map(|name| format!("{name}: {FORGED}"));
    let trace = "Connection: close, X-Forwarded-Uri, X-Forwarded-Method";
    let spoofed = request("GET", "/login").lines(forged.clone()).line(all.clone());
    vec![
        case("named in Connection", orders().line(all.clone()), Served(Admin)),
        case("spoofed and named in Connection", orders().lines(forged).line(all.clone()), Served(Admin)),
        case("named in Connection where unguarded", spoofed, Nobody),
        case("named in Connection without a token", request("GET", "/orders").line(all), Refused(401)),
        case("one named in Connection", orders().line("connection: close,,\tX-TOKENRY-ROLE ,"), Served(Admin)),
        case(
            "named in a second Connection",
            orders().lines(["Connection: close", "Connection: x-tokenry-subject"]),
            Served(Admin),
        ),
        case("Authorization named in Connection", orders().line("Connection: close, Authorization"), Refused(401)),
        case("the request named in Connection", request("DELETE", "/orders").line(trace), Refused(401)),
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
        case("X-Forwarded-Uri without a token", request("GET", "/orders").lines(login), Refused(401)),
        case("X-Forwarded-Uri twice", request("GET", "/orders").lines(login).lines(login), Refused(401)),
        case(
            "x_forwarded_uri",
            request("GET", "/orders").lines(["x_forwarded_method: GET", "x_forwarded_uri: /login"]),
            Refused(401),
        ),
        case("X-Original-URL without a token", request("GET", "/orders").lines(others), Refused(401)),
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
    ]
}

/// Paths that servers read differently. Without a token only `/login` and below may be reached, with a token all but
/// `/console` and below.
fn paths(tokens: &Tokens) -> Vec<Case> {
    let open = |name, path: &str, sees| case(name, request("GET", path), sees);
    let shut = |name, path: &str, sees| case(name, request("GET", path).bearer(&tokens.admin), sees);
    let long = format!("/login/{}", "a".repeat(4000));
    vec![
        open("/%6Cogin", "/%6Cogin", Refused(401)),
        open("/Login", "/Login", Refused(401)),
        open("//login", "//login", Refused(401)),
        open("/./login", "/./login", Refused(401)),
        open("/orders/../login", "/orders/../login", Refused(401)),
        open("/login/../orders", "/login/../orders", Refused(401)),
        open("/login/%2e%2e/orders", "/login/%2e%2e/orders", Refused(401)),
        open("/login/..%2Forders", "/login/..%2Forders", Refused(401)),
        open("/login%2Fform", "/login%2Fform", Refused(401)),
        open("/login;x", "/login;x", Refused(401)),
        open("/login;x/../../orders", "/login;x/../../orders", Refused(401)),
        open("/login%3B/../orders", "/login%3B/../orders", Refused(401)),
        open("/login/..\\orders", "/login/..\\orders", Refused(401)),
        open("/login/..%5Corders", "/login/..%5Corders", Refused(401)),
        open("/login%00", "/login%00", Refused(401)),
        open("/login%0A", "/login%0A", Refused(401)),
        open("/orders?/login", "/orders?/login", Refused(401)),
        open("/orders#/login", "/orders#/login", Refused(401)),
        open("/orders%3F/../login", "/orders%3F/../login", Refused(401)),
        open("a long path", &long, Nobody),
        open("an absolute target", "http://HOST/login", Nobody),
        open("an absolute target elsewhere", "http://HOST/orders", Refused(401)),
        open("a target without a slash", "login", Refused(400)),
        shut("//console", "//console", Refused(403)),
        shut("/./console/keys", "/./console/keys", Refused(403)),
        shut("/orders/../console", "/orders/../console", Refused(403)),
        shut("/orders/%2e%2e/console", "/orders/%2e%2e/console", Refused(403)),
        shut("/orders/..%2fconsole", "/orders/..%2fconsole", Refused(403)),
        shut("/c%6Fnsole;a=b/x", "/c%6Fnsole;a=b/x", Refused(403)),
        shut("/console%2Fkeys", "/console%2Fkeys", Refused(403)),
        shut("/console%00", "/console%00", Refused(403)),
        shut("/orders/..\\console", "/orders/..\\console", Refused(403)),
    ]
}
