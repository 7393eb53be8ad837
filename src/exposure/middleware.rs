//! The Middleware of Traefik: it asks the verifier about each request.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::{Exposed, loose::Middleware};
use crate::crd::endpoint::Guard;

/// The size of the largest answer that Traefik accepts from the verifier, in bytes.
const LARGEST: u32 = 65_536;

/// The Middleware of `exposed`. `None` unless the guard is Traefik.
pub(crate) fn build(exposed: &Exposed) -> Option<Middleware> {
    let verifier = exposed.verifier_of(Guard::Traefik)?;
    // Without `authRequestHeaders`, all headers of the request reach the verifier.
    let mut spec = json!({"forwardAuth": {
        "address": format!("{}://{}{}", verifier.scheme.as_str(), verifier.authority(), exposed.asked_at("authorize")),
        "trustForwardHeader": false,
        "maxResponseBodySize": LARGEST,
        "authResponseHeaders": super::passed_on(),
    }});
    // Without this Secret, Traefik has no Middleware, and refuses all requests.
    if let Some(https) = verifier.https() {
        spec["forwardAuth"]["tls"] = json!({ "caSecret": https.ca_secret });
    }
    let metadata = ObjectMeta { name: Some(exposed.middleware.clone()), ..ObjectMeta::default() };
    Some(Middleware::new(metadata, spec))
}

/// The name by which an Ingress refers to the Middleware.
pub(crate) fn reference(exposed: &Exposed) -> String {
    let (namespace, name) = (&exposed.instance.0, &exposed.middleware);
    let joined = if exposed.config.traefik_safe_naming {
        format!("{namespace}_{name}")
    } else {
        let whole = format!("{namespace}-{name}");
        whole.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
    };
    format!("{joined}@kubernetescrd")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crd::{Instance, instance::Scheme},
        exposure::{
            PieceKind,
            tests::{exposed_of, instance},
        },
    };
    use std::sync::Arc;

    fn guarded(uid: &str) -> Instance {
        let endpoint = json!({"name": "admin", "host": "a.example.com", "ingress": {}, "guard": "Traefik"});
        let mut instance = instance(json!({"service": {"name": "m"}, "endpoints": [endpoint]}));
        instance.metadata.uid = Some(uid.into());
        instance
    }

    #[test]
    fn its_name_differs_for_each_instance_of_the_same_name() {
        let [one, other] = ["u", "v"].map(|uid| build(&exposed_of(&guarded(uid))).unwrap().metadata.name.unwrap());
        assert!(one.starts_with("eem-admin-") && one != other, "{one} {other}");
        let instance = guarded("u");
        let endpoint = instance.endpoints().next().unwrap().name;
        assert_eq!(PieceKind::Middleware.object_name(&instance, endpoint), one);
    }

    #[test]
    fn by_https_it_verifies_the_verifier_by_the_secret_that_the_operator_keeps() {
        let mut exposed = exposed_of(&guarded("u"));
        let auth = |exposed: &Exposed| build(exposed).unwrap().spec["forwardAuth"].clone();
        let plain = auth(&exposed);
        assert!(plain["address"].as_str().unwrap().starts_with("http://tokenry-verifier.tokenry.svc:80/"));
        assert_eq!(plain["tls"], serde_json::Value::Null);
        exposed.asks_by = Scheme::Https;
        let by_https = auth(&exposed);
        assert!(by_https["address"].as_str().unwrap().starts_with("https://tokenry-verifier.tokenry.svc:443/"));
        assert_eq!(by_https["tls"], json!({"caSecret": "tokenry-verifier-ca"}));
    }

    #[test]
    fn an_ingress_refers_to_it_as_traefik_names_it() {
        let mut exposed = exposed_of(&guarded("u"));
        (exposed.instance.0, exposed.middleware) = ("a--b".into(), "c--d-1".into());
        assert_eq!(reference(&exposed), "a-b-c-d-1@kubernetescrd");
        Arc::make_mut(&mut exposed.config).traefik_safe_naming = true;
        assert_eq!(reference(&exposed), "a--b_c--d-1@kubernetescrd");
    }
}
