//! An external endpoint of the API, which Traefik guards.

use serde_json::json;

use crate::{
    Told, account, caller,
    calls::{Call, Outcome},
    ready,
    site::{SHOP, Site},
    start_caller,
};

/// The Instance of the endpoint, and its token.
const EDGE: &str = "edge";

/// The host of the endpoint. It is the Service of Traefik, so that the operator can probe the endpoint too.
fn host() -> String {
    format!("traefik.{SHOP}.svc.cluster.local")
}

/// Exposes the API by an Ingress of Traefik, and calls it there until the token is revoked.
pub fn traefik_guards_an_endpoint(site: &Site) -> Told {
    site.apply(SHOP, include_str!("traefik.yaml"))?;
    site.rolled_out(SHOP, "traefik")?;
    let external = json!({
        "name": "admin", "type": "external", "host": host(), "ingress": {"className": "traefik"}, "guard": "Traefik",
        "probe": {"interval": "10s"},
    });
    expose(site, &external)?;
    let token = json!({
        "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {"name": EDGE},
        "spec": {"instanceRef": {"name": EDGE}},
    });
    site.apply(SHOP, &token.to_string())?;
    ready(site, &[&format!("apitoken/{EDGE}")])?;
    for condition in ["Reachable", "Guarded"] {
        let wait = format!("--for=condition={condition}");
        site.kubectl(&["wait", &wait, "--timeout=2m", "--namespace", SHOP, &format!("instance/{EDGE}")])?;
        site.tell(&format!("{condition}: {}", message(site, condition)?));
    }
    start_caller(site, EDGE, "traefik", &host())?;
    site.eventually("calls are made through Traefik", || Ok((site.calls(&caller(EDGE))?.len() > 20).then_some(())))?;
    site.calls(&caller(EDGE))?.were_accepted(&account(EDGE))?;
    site.tell("calls through Traefik are accepted");

    expose(site, &json!({"name": "admin", "type": "internal"}))?;
    last_call(site, "the narrowed endpoint is gone", |call| call.outcome == Outcome::Refused(404))?;
    expose(site, &external)?;
    last_call(site, "the endpoint is reachable again", Call::is_accepted)?;
    let revoked = r#"{"spec":{"revoked":true}}"#;
    site.kubectl(&["patch", "apitoken", EDGE, "--namespace", SHOP, "--type=merge", "--patch", revoked])?;
    last_call(site, "calls with the revoked token are refused", |call| call.outcome == Outcome::Refused(401))?;
    site.kubectl(&["delete", "deployment", &caller(EDGE), "--namespace", SHOP]).map(drop)
}

/// Applies the Instance with this endpoint, and waits until it is ready.
fn expose(site: &Site, endpoint: &serde_json::Value) -> Told {
    let service = json!({"name": "shop-manager", "port": 8080, "scheme": "http"});
    let instance = json!({
        "apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance", "metadata": {"name": EDGE},
        "spec": {"manager": {"service": service, "endpoints": [endpoint]}},
    });
    site.apply(SHOP, &instance.to_string())?;
    ready(site, &[&format!("instance/{EDGE}")])
}

/// The message of a condition of the Instance.
fn message(site: &Site, condition: &str) -> Told<String> {
    let path = format!("--output=jsonpath={{.status.conditions[?(@.type==\"{condition}\")].message}}");
    site.kubectl(&["get", "instance", EDGE, "--namespace", SHOP, &path])
}

/// Waits until the last call is of this kind.
fn last_call(site: &Site, what: &str, is: impl Fn(&Call) -> bool) -> Told {
    site.eventually(what, || Ok(site.calls(&caller(EDGE))?.last().is_some_and(&is).then_some(())))?;
    site.tell(what);
    Ok(())
}
