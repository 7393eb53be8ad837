//! The protocol by which a guard asks the verifier. A guard goes over to HTTPS once everything for it is there. So it
//! never asks a verifier that does not answer there yet, and none that it cannot verify.
//!
//! ```text
//! the verifier answers by HTTPS ─▶ the guard has its CA ─▶ the guard asks by HTTPS ─▶ verifier.plainHttp: false
//! ```

use serde_json::Value;

use super::{ExposureConfig, HttpsPort, Piece, PieceKind, VerifierService, gate};
use crate::crd::{endpoint::Guard, instance::Scheme};

/// The feature of a GatewayClass whose Gateways obey a BackendTLSPolicy.
const FEATURE: &str = "BackendTLSPolicy";

/// The state of everything that guards by HTTPS need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpsNeeds {
    /// Success once the verifier has answered by HTTPS, with a certificate that its CA has signed. The error is the
    /// reason in words.
    pub reached: Result<(), String>,
    /// True if the namespace of the Instance has the Secret with the CA.
    pub has_secret: bool,
    /// True if the Service of the verifier has its BackendTLSPolicy. `None` if that is not known.
    pub has_policy: Option<bool>,
}

/// The protocol by which a guard asks, and the reason in words if that is plain HTTP beside an HTTPS port. `standing`
/// is the object that names the verifier, if it exists. `unverifying` is a Gateway that is not known to verify the
/// verifier, in words.
///
/// A guard that asks by HTTPS already goes on so while the verifier is away.
pub fn choose(
    guard: Guard,
    config: &ExposureConfig,
    needs: &HttpsNeeds,
    unverifying: Option<&str>,
    standing: Option<&Piece>,
) -> (Scheme, Option<String>) {
    let Some(verifier) = config.verifier.as_ref().filter(|_| super::asks(guard)) else { return (Scheme::Http, None) };
    let (Some(first), Some(https)) = (verifier.first(), &verifier.https) else { return (Scheme::Http, None) };
    if first == Scheme::Https {
        return (first, None);
    }
    let by_https = standing.is_some_and(|piece| asks_by_https(piece, https));
    let unreached = || {
        let why = needs.reached.as_ref().err().filter(|_| !by_https)?;
        Some(format!("the operator has not reached {} by HTTPS yet: {why}", verifier.name))
    };
    let obstacle = match guard {
        Guard::Traefik => unreached().or_else(|| {
            let lacks = !needs.has_secret && !by_https;
            lacks.then(|| format!("Secret {} does not have the CA of the verifier yet", https.ca_secret))
        }),
        Guard::EnvoyGateway => unpoliced(verifier, needs.has_policy, by_https).or_else(unreached),
        Guard::ExternalAuth => {
            let unlisted = unverifying.map(str::to_owned);
            unlisted.or_else(|| unpoliced(verifier, needs.has_policy, by_https)).or_else(unreached)
        }
        Guard::Nginx => Some("ingress-nginx does not verify the certificate of the verifier".into()),
        Guard::Istio | Guard::Backend | Guard::None => None,
    };
    (if obstacle.is_some() { Scheme::Http } else { Scheme::Https }, obstacle)
}

/// The missing BackendTLSPolicy in words. Without it, a Gateway speaks plain HTTP at the port of HTTPS.
fn unpoliced(verifier: &VerifierService, has_policy: Option<bool>, by_https: bool) -> Option<String> {
    let VerifierService { name, namespace, .. } = verifier;
    match has_policy {
        Some(true) => None,
        None if by_https => None,
        None => Some(format!("it is not known yet if there is a BackendTLSPolicy {namespace}/{name}")),
        Some(false) => Some(format!(
            "there is no BackendTLSPolicy {namespace}/{name}; install Gateway API 1.4 or newer, and then upgrade the \
             release of Tokenry"
        )),
    }
}

/// The kind of the object that names the verifier for a guard. `None` if the way in itself names it in words of its
/// controller.
pub fn naming(guard: Guard) -> Option<PieceKind> {
    gate::kind(guard).or_else(|| (guard == Guard::ExternalAuth).then_some(PieceKind::HttpRoute))
}

/// True if this object makes its controller ask at the port of HTTPS.
fn asks_by_https(piece: &Piece, https: &HttpsPort) -> bool {
    let is_port = |backend: &Value| backend["port"] == https.port;
    match piece {
        Piece::Middleware(middleware) => {
            let address = middleware.spec["forwardAuth"]["address"].as_str();
            address.is_some_and(|address| address.starts_with("https://"))
        }
        Piece::SecurityPolicy(policy) => {
            let backends = policy.spec["extAuth"]["http"]["backendRefs"].as_array();
            backends.is_some_and(|backends| backends.iter().any(is_port))
        }
        Piece::HttpRoute(route) => {
            let rules = route.spec["rules"].as_array().into_iter().flatten();
            let mut filters = rules.flat_map(|rule| rule["filters"].as_array().into_iter().flatten());
            filters.any(|filter| is_port(&filter["externalAuth"]["backendRef"]))
        }
        Piece::Service(_)
        | Piece::NetworkPolicy(_)
        | Piece::AuthorizationPolicy(_)
        | Piece::Ingress(_)
        | Piece::Route(_) => false,
    }
}

/// The text for a Gateway that is not known to verify the verifier: its class does not list the feature. `None` if it
/// does.
pub fn unverifying((namespace, name): &(String, String), features: Option<&Value>) -> Option<String> {
    let mut listed = features.and_then(Value::as_array).into_iter().flatten();
    // Older versions of Gateway API list the bare names.
    let is_listed = listed.any(|feature| feature == FEATURE || feature["name"] == FEATURE);
    (!is_listed).then(|| format!("the class of Gateway {namespace}/{name} does not list the feature {FEATURE}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::exposure::{
        loose::{Middleware, SecurityPolicy},
        tests::config,
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use serde_json::json;

    /// Everything is there.
    pub(crate) fn met() -> HttpsNeeds {
        HttpsNeeds { reached: Ok(()), has_secret: true, has_policy: Some(true) }
    }

    /// Nothing is there.
    pub(crate) fn unmet() -> HttpsNeeds {
        HttpsNeeds { reached: Err("nobody was asked".into()), has_secret: false, has_policy: None }
    }

    fn middleware(scheme: &str) -> Piece {
        let spec = json!({"forwardAuth": {"address": format!("{scheme}://v:1/a")}});
        Middleware::new(ObjectMeta::default(), spec).into()
    }

    fn policy(port: i32) -> Piece {
        let spec = json!({"extAuth": {"http": {"backendRefs": [{"name": "v", "port": port}]}}});
        SecurityPolicy::new(ObjectMeta::default(), spec).into()
    }

    fn chosen(guard: Guard, needs: &HttpsNeeds, standing: Option<&Piece>) -> (Scheme, Option<String>) {
        choose(guard, &config(), needs, None, standing)
    }

    #[test]
    fn a_guard_asks_by_https_once_everything_that_it_needs_is_there() {
        let without = |change: fn(&mut HttpsNeeds)| {
            let mut needs = met();
            change(&mut needs);
            needs
        };
        let unreached = without(|needs| needs.reached = Err("refused".into()));
        let unsupplied = without(|needs| needs.has_secret = false);
        let unpoliced = without(|needs| needs.has_policy = Some(false));
        let unknown = without(|needs| needs.has_policy = None);
        for (guard, needs, why) in [
            (Guard::Traefik, &met(), None),
            (Guard::Traefik, &unpoliced, None),
            (Guard::Traefik, &unreached, Some("has not reached tokenry-verifier by HTTPS yet: refused")),
            (Guard::Traefik, &unsupplied, Some("Secret tokenry-verifier-ca does not have the CA")),
            (Guard::EnvoyGateway, &met(), None),
            (Guard::EnvoyGateway, &unsupplied, None),
            (Guard::EnvoyGateway, &unreached, Some("has not reached")),
            (Guard::EnvoyGateway, &unpoliced, Some("there is no BackendTLSPolicy tokenry/tokenry-verifier; install")),
            (Guard::EnvoyGateway, &unknown, Some("it is not known yet")),
            (Guard::ExternalAuth, &met(), None),
            (Guard::ExternalAuth, &unpoliced, Some("there is no BackendTLSPolicy")),
            (Guard::Nginx, &met(), Some("ingress-nginx does not verify")),
        ] {
            let (scheme, told) = chosen(guard, needs, None);
            assert_eq!(scheme == Scheme::Https, why.is_none(), "{guard:?} {needs:?}");
            assert!(why.is_none_or(|why| told.as_ref().unwrap().contains(why)), "{guard:?} {told:?}");
        }
        let listed = choose(Guard::ExternalAuth, &config(), &met(), Some("of another class"), None);
        assert_eq!(listed, (Scheme::Http, Some("of another class".into())));
        for guard in [Guard::Istio, Guard::Backend, Guard::None] {
            assert_eq!(chosen(guard, &met(), None), (Scheme::Http, None));
        }
    }

    #[test]
    fn a_guard_by_https_stays_so_while_the_verifier_is_away_and_never_without_its_policy() {
        let by = |guard, needs: &HttpsNeeds, standing: &Piece| chosen(guard, needs, Some(standing)).0;
        assert_eq!(by(Guard::Traefik, &unmet(), &middleware("https")), Scheme::Https);
        assert_eq!(by(Guard::Traefik, &unmet(), &middleware("http")), Scheme::Http);
        assert_eq!(by(Guard::EnvoyGateway, &unmet(), &policy(443)), Scheme::Https);
        assert_eq!(by(Guard::EnvoyGateway, &unmet(), &policy(80)), Scheme::Http);
        let gone = HttpsNeeds { has_policy: Some(false), ..met() };
        assert_eq!(by(Guard::EnvoyGateway, &gone, &policy(443)), Scheme::Http);
    }

    #[test]
    fn with_one_port_there_is_no_choice() {
        let mut config = config();
        let by = |config: &ExposureConfig| choose(Guard::Nginx, config, &met(), None, None);
        config.verifier.as_mut().unwrap().port = None;
        assert_eq!(by(&config), (Scheme::Https, None));
        assert_eq!(choose(Guard::Traefik, &config, &unmet(), None, None), (Scheme::Https, None));
        let verifier = config.verifier.as_mut().unwrap();
        (verifier.port, verifier.https) = (Some(80), None);
        assert_eq!(choose(Guard::Traefik, &config, &met(), None, None), (Scheme::Http, None));
        config.verifier = None;
        assert_eq!(choose(Guard::Traefik, &config, &met(), None, None), (Scheme::Http, None));
    }

    #[test]
    fn a_class_has_to_list_that_it_obeys_the_policy() {
        let of = |features: Option<Value>| unverifying(&("a".into(), "g".into()), features.as_ref());
        for listed in [json!([{"name": "HTTPRoute"}, {"name": "BackendTLSPolicy"}]), json!(["BackendTLSPolicy"])] {
            assert_eq!(of(Some(listed)), None);
        }
        for unlisted in [None, Some(json!(null)), Some(json!([])), Some(json!([{"name": "HTTPRoute"}]))] {
            let told = of(unlisted).unwrap();
            assert_eq!(told, "the class of Gateway a/g does not list the feature BackendTLSPolicy");
        }
    }
}
