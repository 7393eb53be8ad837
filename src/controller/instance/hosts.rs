//! The Instance that holds a DNS name. Two Instances with one name would share one way in, and the edge would choose.

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    controller::{Rooms, depends::Depends},
    crd::Instance,
};

/// The other Instance that holds a DNS name of an endpoint of `instance`, as NAMESPACE/NAME. `None` if `instance` holds
/// them all, or has none.
pub(super) fn holder(instance: &Instance, rooms: &Rooms) -> Option<String> {
    instance.hosts().find_map(|host| holder_of(host, instance, rooms))
}

fn holder_of(host: &str, instance: &Instance, rooms: &Rooms) -> Option<String> {
    let rivals: Vec<_> = rooms.caches.instances.by(&Depends::Host(host)).collect();
    let rivals = rivals.iter().map(|rival| &**rival).filter(|rival| rival.hosts().any(|it| it == host));
    let own = rank(instance, host);
    let best = rivals.filter(|rival| rival.uid() != instance.uid()).min_by_key(|rival| rank(rival, host))?;
    (rank(best, host) < own).then(|| format!("{}/{}", best.namespace().unwrap_or_default(), best.name_any()))
}

/// The rank of an Instance among those that want `host`; the least holds it. One whose status has published it comes
/// first, then the older one.
fn rank(instance: &Instance, host: &str) -> (bool, Option<Timestamp>, String) {
    let status = instance.status.as_ref();
    let mut published = status.into_iter().flat_map(|status| &status.endpoints);
    let holds = published.any(|endpoint| endpoint.uri.split_once("://").is_some_and(|(_, name)| name == host));
    let since = instance.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (!holds, since, instance.uid().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn instance(uid: &str, created: &str, uri: &str) -> Instance {
        serde_json::from_value(json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "Instance",
            "metadata": {"name": uid, "namespace": "a", "uid": uid, "creationTimestamp": created},
            "spec": {"manager": {"endpoints": [{"name": "admin", "host": "h.example.com"}]}},
            "status": {"endpoints": [{"name": "admin", "type": "external", "uri": uri}]},
        }))
        .unwrap()
    }

    #[test]
    fn who_has_published_a_name_holds_it_and_else_the_older_one() {
        let rank = |instance: &Instance| super::rank(instance, "h.example.com");
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let older = instance("b", old, "");
        assert!(rank(&older) < rank(&instance("a", new, "")));
        assert!(rank(&instance("a", new, "https://h.example.com")) < rank(&older));
        assert!(rank(&instance("a", old, "")) < rank(&older), "one of them");
    }

    #[test]
    fn the_further_names_of_a_route_are_held_too() {
        let mut instance = instance("a", "2026-01-01T00:00:00Z", "");
        assert!(instance.hosts().eq(["h.example.com"]));
        let endpoint = &mut instance.spec.manager.as_mut().unwrap().endpoints[0];
        endpoint.gateway = Some(serde_json::from_value(json!({"hostnames": ["i.example.com"]})).unwrap());
        assert!(instance.hosts().eq(["h.example.com", "i.example.com"]));
    }
}
