//! Annotations of an Ingress: those of the guard, and those that users may give.

use std::collections::BTreeMap;

use super::{Exposed, middleware};
use crate::crd::{
    endpoint::{Guard, IngressTemplate},
    instance::Scheme,
};

/// The Middlewares of a router of Traefik.
const MIDDLEWARES: &str = "traefik.ingress.kubernetes.io/router.middlewares";
/// The URL that ingress-nginx asks about each request.
const AUTH_URL: &str = "nginx.ingress.kubernetes.io/auth-url";
/// The headers that ingress-nginx takes over from the answer into the request.
const AUTH_HEADERS: &str = "nginx.ingress.kubernetes.io/auth-response-headers";
/// The protocol between ingress-nginx and the API.
const BACKEND_PROTOCOL: &str = "nginx.ingress.kubernetes.io/backend-protocol";

/// Our own prefix. These annotations are notes of the operator.
const OURS: &str = "tokenry.dev";

/// The prefix of settings that several Ingress controllers read. Prefixes below it serve other purposes.
const SHARED: &str = "kubernetes.io";
/// The prefix of Ingress controllers. Many have a prefix of their own below it.
const INGRESS: &str = "ingress.kubernetes.io";
/// Further prefixes of Ingress controllers. Prefixes below one of these count too.
const CONTROLLERS: [&str; 24] = [
    "haproxy.org",
    "haproxy.com",
    "haproxy-ingress.github.io",
    "nginx.org",
    "nginx.com",
    "konghq.com",
    "projectcontour.io",
    "contour.heptio.com",
    "traefik.io",
    "traefik.containo.us",
    "getambassador.io",
    "gloo.solo.io",
    "higress.io",
    "apisix.apache.org",
    "zalando.org",
    "ingress.pomerium.io",
    "ingress.cilium.io",
    "ingress.citrix.com",
    "virtual-server.f5.com",
    "ngrok.com",
    "tailscale.com",
    "networking.gke.io",
    "route.openshift.io",
    "router.openshift.io",
];

/// The settings of Ingress controllers that neither take the guard away nor lead past it.
const ALLOWED: [(&str, &[&str]); 9] = [
    (
        "traefik.ingress.kubernetes.io",
        &[
            "router.entrypoints",
            "router.observability.accesslogs",
            "router.observability.metrics",
            "router.observability.tracing",
            "router.priority",
            "router.tls",
            "router.tls.certresolver",
            "router.tls.options",
        ],
    ),
    (
        "nginx.ingress.kubernetes.io",
        &[
            "affinity",
            "affinity-mode",
            "backend-protocol",
            "client-body-buffer-size",
            "denylist-source-range",
            "enable-access-log",
            "force-ssl-redirect",
            "limit-burst-multiplier",
            "limit-connections",
            "limit-rate",
            "limit-rate-after",
            "limit-rpm",
            "limit-rps",
            "limit-whitelist",
            "load-balance",
            "proxy-body-size",
            "proxy-buffer-size",
            "proxy-buffering",
            "proxy-buffers-number",
            "proxy-connect-timeout",
            "proxy-http-version",
            "proxy-max-temp-file-size",
            "proxy-next-upstream",
            "proxy-next-upstream-timeout",
            "proxy-next-upstream-tries",
            "proxy-read-timeout",
            "proxy-request-buffering",
            "proxy-send-timeout",
            "proxy-ssl-ciphers",
            "proxy-ssl-name",
            "proxy-ssl-protocols",
            "proxy-ssl-secret",
            "proxy-ssl-server-name",
            "proxy-ssl-verify",
            "proxy-ssl-verify-depth",
            "service-upstream",
            "session-cookie-expires",
            "session-cookie-max-age",
            "session-cookie-name",
            "session-cookie-samesite",
            "session-cookie-secure",
            "ssl-ciphers",
            "ssl-prefer-server-ciphers",
            "ssl-redirect",
            "whitelist-source-range",
        ],
    ),
    (
        "alb.ingress.kubernetes.io",
        &[
            "backend-protocol",
            "backend-protocol-version",
            "certificate-arn",
            "healthcheck-interval-seconds",
            "healthcheck-path",
            "healthcheck-port",
            "healthcheck-protocol",
            "healthcheck-timeout-seconds",
            "healthy-threshold-count",
            "inbound-cidrs",
            "ip-address-type",
            "listen-ports",
            "load-balancer-attributes",
            "load-balancer-name",
            "manage-backend-security-group-rules",
            "scheme",
            "security-groups",
            "ssl-policy",
            "ssl-redirect",
            "subnets",
            "success-codes",
            "tags",
            "target-group-attributes",
            "target-type",
            "unhealthy-threshold-count",
        ],
    ),
    (
        "haproxy.org",
        &["server-ssl", "ssl-redirect", "timeout-client", "timeout-connect", "timeout-http-request", "timeout-server"],
    ),
    (
        "haproxy-ingress.github.io",
        &["backend-protocol", "proxy-body-size", "ssl-redirect", "timeout-client", "timeout-connect", "timeout-server"],
    ),
    (
        "nginx.org",
        &[
            "client-max-body-size",
            "proxy-buffering",
            "proxy-connect-timeout",
            "proxy-read-timeout",
            "proxy-send-timeout",
            "redirect-to-https",
            "ssl-services",
        ],
    ),
    ("networking.gke.io", &["managed-certificates", "v1beta1.FrontendConfig"]),
    (INGRESS, &["ssl-redirect"]),
    (SHARED, &["ingress.allow-http", "ingress.global-static-ip-name", "tls-acme"]),
];

/// The annotations of the Ingress: those of `wanted`, and those of the guard. A guard's own are never replaced.
pub(crate) fn all(exposed: &Exposed, wanted: &IngressTemplate) -> BTreeMap<String, String> {
    let mut all = wanted.annotations.clone();
    if exposed.scheme == Scheme::Https {
        all.entry(BACKEND_PROTOCOL.into()).or_insert_with(|| "HTTPS".into());
    }
    if exposed.verifier_of(Guard::Traefik).is_some() {
        all.insert(MIDDLEWARES.into(), middleware::reference(exposed));
    }
    if let Some(verifier) = exposed.verifier_of(Guard::Nginx) {
        // ingress-nginx verifies no certificate here. So it asks by HTTPS only where there is nothing else.
        let (scheme, path) = (verifier.scheme.as_str(), exposed.asked_at("ingress-nginx"));
        let url = format!("{scheme}://{}{path}", verifier.whole_authority());
        all.extend([(AUTH_URL.into(), url), (AUTH_HEADERS.into(), super::identity().join(","))]);
    }
    all
}

/// True if the controller of a guard reads this setting, and users must not give it. These controllers write no
/// annotations themselves.
pub fn is_setting_of_guard(key: &str) -> bool {
    let prefixes = [MIDDLEWARES, AUTH_URL].map(|own| own.split_once('/').map(|(prefix, _)| prefix));
    prefixes.contains(&key.split_once('/').map(|(prefix, _)| prefix)) && refused(key).is_some()
}

/// The reason why users must not give this annotation. `None` if they may.
pub(crate) fn refused(key: &str) -> Option<String> {
    let (prefix, name) = key.split_once('/')?;
    let is_within =
        |parent: &str| prefix.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if is_within(OURS) {
        return Some("annotations of Tokenry are notes of the operator; remove it".into());
    }
    let is_judged = prefix == SHARED || [INGRESS].into_iter().chain(CONTROLLERS).any(is_within);
    let allowed = || ALLOWED.into_iter().find(|(own, _)| *own == prefix).map_or(&[][..], |(_, names)| names);
    if !is_judged || allowed().contains(&name) {
        return None;
    }
    let rule = "such a setting of an Ingress controller can take the guard away, or lead past it";
    Some(match allowed() {
        [] => format!("{rule}; no setting under {prefix}/ is allowed"),
        names => format!("{rule}; allowed under {prefix}/ are {}", names.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_can_take_the_guard_away_are_refused() {
        for key in [
            MIDDLEWARES,
            AUTH_URL,
            AUTH_HEADERS,
            "nginx.ingress.kubernetes.io/satisfy",
            "nginx.ingress.kubernetes.io/auth-snippet",
            "nginx.ingress.kubernetes.io/auth-signin",
            "nginx.ingress.kubernetes.io/auth-cache-key",
            "nginx.ingress.kubernetes.io/auth-keepalive",
            "nginx.ingress.kubernetes.io/configuration-snippet",
            "nginx.ingress.kubernetes.io/server-snippet",
            "nginx.ingress.kubernetes.io/custom-http-errors",
            "nginx.ingress.kubernetes.io/default-backend",
            "nginx.ingress.kubernetes.io/enable-global-auth",
            "nginx.ingress.kubernetes.io/rewrite-target",
            "nginx.ingress.kubernetes.io/server-alias",
            "nginx.ingress.kubernetes.io/canary",
            "traefik.ingress.kubernetes.io/router.rulesyntax",
            "traefik.ingress.kubernetes.io/router.pathmatcher",
            "ingress.kubernetes.io/auth-type",
            "other.ingress.kubernetes.io/anything",
            "kubernetes.io/ingress.class",
            "haproxy.org/backend-config-snippet",
            "konghq.com/plugins",
            "tokenry.dev/leaving-since",
            "a.tokenry.dev/b",
        ] {
            assert!(refused(key).is_some(), "{key}");
        }
    }

    #[test]
    fn other_annotations_are_allowed() {
        for key in [
            "plain",
            "cert-manager.io/cluster-issuer",
            "external-dns.alpha.kubernetes.io/target",
            "nginx.ingress.kubernetes.io/proxy-body-size",
            "traefik.ingress.kubernetes.io/router.entrypoints",
            "notkubernetes.io/a",
            "kubernetes.io/tls-acme",
        ] {
            assert_eq!(refused(key), None, "{key}");
        }
    }

    #[test]
    fn the_lists_are_sorted_and_name_known_controllers() {
        for (prefix, names) in ALLOWED {
            assert!(names.is_sorted(), "{prefix}");
            assert!(prefix == SHARED || prefix.ends_with(INGRESS) || CONTROLLERS.contains(&prefix), "{prefix}");
            assert!(names.iter().all(|name| refused(&format!("{prefix}/{name}")).is_none()), "{prefix}");
        }
    }
}
