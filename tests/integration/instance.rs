//! Instances: their endpoints, and what they say about their tokens.

use std::{fmt::Debug, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{ConfigMap, Namespace, Secret, Service},
        networking::v1::{Ingress, NetworkPolicy},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokenry::crd::Instance;

use crate::harness::{World, clock::Held, run::Running, wire::Wire};

/// What a test may make, look at and take away by itself.
trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
}
impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
}

async fn make<K: Object>(world: &World, object: Value) -> K {
    world.api::<K>().create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
}

async fn get<K: Object>(world: &World, name: &str) -> Option<K> {
    world.api::<K>().get_opt(name).await.unwrap()
}

async fn merge<K: Object>(world: &World, name: &str, patch: Value) {
    world.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

async fn remove<K: Object>(world: &World, name: &str) {
    world.api::<K>().delete(name, &DeleteParams::default()).await.unwrap();
}

async fn await_gone<K: Object>(world: &World, name: &str) {
    let what = format!("{} {name} is gone", K::kind(&()));
    world.eventually(&what, async || get::<K>(world, name).await.is_none().then_some(())).await;
}

/// The Service of the product's manager.
async fn manager(world: &World) {
    let spec = json!({"selector": {"app": "eem"}, "ports": [{"name": "api", "port": 443, "targetPort": "api"}]});
    make::<Service>(world, json!({"metadata": {"name": "eem-manager"}, "spec": spec})).await;
}

/// An internal endpoint without a NetworkPolicy.
fn internal() -> Value {
    let endpoint = json!({"name": "admin", "type": "internal"});
    let service = json!({"name": "eem-manager"});
    json!({"manager": {"service": service, "endpoints": [endpoint], "networkPolicy": {"from": "None"}}})
}

fn external(ingress: Value) -> Value {
    let endpoint = json!({
        "name": "admin", "type": "external", "host": "admin.example.com", "ingress": ingress, "allowUnguarded": true,
    });
    json!({"manager": {"service": {"name": "eem-manager"}, "endpoints": [endpoint]}})
}

/// Waits until an Instance says this about its spec as it is now, and hands it back.
async fn says(world: &World, name: &str, reason: &str) -> Instance {
    world
        .eventually(&format!("Instance {name} says {reason}"), async || {
            let instance = get::<Instance>(world, name).await?;
            let ready = condition(&instance, "Ready")?;
            (ready.1 == reason && instance.status.as_ref()?.observed_generation == instance.metadata.generation)
                .then_some(instance)
        })
        .await
}

/// Status, reason and message of a condition.
fn condition(instance: &Instance, type_: &str) -> Option<(String, String, String)> {
    let conditions = &instance.status.as_ref()?.conditions;
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    Some((found.status.clone(), found.reason.clone(), found.message.clone()))
}

/// The types of the conditions that are true.
fn holding(instance: &Instance) -> Vec<&str> {
    let conditions = &instance.status.as_ref().unwrap().conditions;
    conditions.iter().filter(|condition| condition.status == "True").map(|condition| condition.type_.as_str()).collect()
}

fn uris(instance: &Instance) -> Vec<&str> {
    instance.status.as_ref().unwrap().endpoints.iter().map(|endpoint| endpoint.uri.as_str()).collect()
}

/// A namespace with an operator at work and the manager's Service.
async fn operated(name: &str) -> (World, Running) {
    let world = World::new(name).await;
    let operator = world.operator(&Held::default()).await;
    manager(&world).await;
    (world, operator)
}

/// The IngressClass `traefik` of the cluster, and the Secret `admin-tls` for a certificate.
async fn served_by_traefik(world: &World) {
    let class = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "traefik"},
        "spec": {"controller": "traefik.io/ingress-controller"},
    });
    world.plane.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &class.to_string()).unwrap();
    let data = json!({"tls.crt": "", "tls.key": ""});
    let secret = json!({"metadata": {"name": "admin-tls"}, "type": "kubernetes.io/tls", "stringData": data});
    make::<Secret>(world, secret).await;
}

#[tokio::test]
async fn the_smallest_instance_is_ready() {
    let world = World::new("bare").await;
    let _operator = world.operator(&Held::default()).await;
    world.accepts("Instance", "eem", json!({})).await;
    let instance = says(&world, "eem", "Accepted").await;
    assert_eq!(holding(&instance), ["Accepted", "EndpointsReady", "Ready"]);
    let status = instance.status.clone().unwrap();
    assert_eq!((status.organization.as_deref(), status.endpoints.len()), (Some("eem"), 0));
    assert_eq!(get::<Service>(&world, "eem-admin").await, None);
    world.await_events("Instance", "eem", &["Accepted"]).await;
}

#[tokio::test]
async fn an_internal_endpoint_is_a_service_in_front_of_the_managers_pods() {
    let (world, _operator) = operated("internal").await;
    world.accepts("Instance", "eem", internal()).await;
    let instance = says(&world, "eem", "Accepted").await;
    assert_eq!(holding(&instance), ["Accepted", "EndpointsReady", "Ready"]);
    assert_eq!(uris(&instance), [format!("https://eem-admin.{}.svc", world.namespace)]);

    let service = get::<Service>(&world, "eem-admin").await.unwrap();
    let spec = service.spec.unwrap();
    assert_eq!(spec.selector.unwrap(), [("app".to_owned(), "eem".to_owned())].into());
    assert_eq!(spec.type_.as_deref(), Some("ClusterIP"));
    let [port] = &spec.ports.unwrap()[..] else { panic!("one port") };
    assert_eq!((port.name.as_deref(), port.port), (Some("https"), 443));
    assert_eq!(port.target_port, Some(IntOrString::String("api".into())));
    let owner = &service.metadata.owner_references.unwrap()[0];
    assert_eq!((owner.uid.as_str(), owner.controller), (instance.metadata.uid.as_deref().unwrap(), Some(true)));
    let labels = service.metadata.labels.unwrap();
    assert_eq!(labels["app.kubernetes.io/managed-by"], "tokenry");
    assert_eq!(Some(&labels["tokenry.dev/owner-uid"]), instance.metadata.uid.as_ref());
    assert_eq!(get::<Ingress>(&world, "eem-admin").await, None);
    world.await_events("Instance", "eem", &["Accepted"]).await;
}

#[tokio::test]
async fn an_external_endpoint_has_an_ingress_of_its_own_too() {
    let (world, _operator) = operated("external").await;
    served_by_traefik(&world).await;
    let ingress =
        json!({"className": "traefik", "annotations": {"a.example.com/b": "c"}, "tls": {"secretName": "admin-tls"}});
    world.accepts("Instance", "eem", external(ingress)).await;
    let instance = says(&world, "eem", "Accepted").await;
    assert_eq!(uris(&instance), ["https://admin.example.com"]);
    let ingress = get::<Ingress>(&world, "eem-admin").await.unwrap();
    let spec = serde_json::to_value(ingress.spec).unwrap();
    let backend = json!({"service": {"name": "eem-admin", "port": {"number": 443}}});
    let paths = json!([{"path": "/", "pathType": "Prefix", "backend": backend}]);
    assert_eq!(
        spec,
        json!({
            "ingressClassName": "traefik",
            "rules": [{"host": "admin.example.com", "http": {"paths": paths}}],
            "tls": [{"hosts": ["admin.example.com"], "secretName": "admin-tls"}],
        })
    );
    assert_eq!(ingress.metadata.annotations.unwrap()["a.example.com/b"], "c");
    assert_eq!(Some(&ingress.metadata.owner_references.unwrap()[0].uid), instance.metadata.uid.as_ref());
    assert!(get::<Service>(&world, "eem-admin").await.is_some());
}

#[tokio::test]
async fn what_is_taken_from_the_spec_goes_from_the_ingress() {
    let (world, _operator) = operated("less").await;
    served_by_traefik(&world).await;
    let full = json!({"className": "traefik", "annotations": {"a": "1", "b": "2"}, "tls": {"secretName": "admin-tls"}});
    world.accepts("Instance", "eem", external(full)).await;
    says(&world, "eem", "Accepted").await;
    // Another's annotation stays, as it would on any object.
    merge::<Ingress>(&world, "eem-admin", json!({"metadata": {"annotations": {"theirs": "3"}}})).await;
    let less = json!({"className": "traefik", "annotations": {"b": "2"}, "tls": {"secretName": "admin-tls"}});
    world.change("Instance", "eem", external(less)).await.unwrap();
    let annotations = async || {
        let ingress = get::<Ingress>(&world, "eem-admin").await.unwrap();
        let annotations = ingress.metadata.annotations.unwrap();
        let keys: Vec<_> = annotations.keys().map(String::as_str).collect();
        let ours = ["nginx.ingress.kubernetes.io/backend-protocol", "tokenry.dev/applied", "tokenry.dev/guarded-by"];
        (keys == ["b", ours[0], "theirs", ours[1], ours[2]]).then_some(())
    };
    world.eventually("the annotation is gone and the others are there", annotations).await;
    let spec = get::<Ingress>(&world, "eem-admin").await.unwrap().spec.unwrap();
    assert_eq!((spec.ingress_class_name.as_deref(), spec.tls.map(|tls| tls.len())), (Some("traefik"), Some(1)));

    world.change("Instance", "eem", external(json!({}))).await.unwrap();
    let bare = async || {
        let spec = get::<Ingress>(&world, "eem-admin").await.unwrap().spec.unwrap();
        (spec.ingress_class_name.is_none() && spec.tls.is_none()).then_some(())
    };
    world.eventually("class and TLS are gone", bare).await;
    assert_eq!(uris(&says(&world, "eem", "Accepted").await), ["http://admin.example.com"]);
}

#[tokio::test]
async fn narrowing_removes_what_is_no_longer_wanted() {
    let (world, _operator) = operated("narrow").await;
    world.accepts("Instance", "eem", external(json!({}))).await;
    says(&world, "eem", "Accepted").await;
    let service = get::<Service>(&world, "eem-admin").await.unwrap();
    assert!(get::<Ingress>(&world, "eem-admin").await.is_some());

    world.change("Instance", "eem", internal()).await.unwrap();
    await_gone::<Ingress>(&world, "eem-admin").await;
    let instance = says(&world, "eem", "Accepted").await;
    assert_eq!(uris(&instance), [format!("https://eem-admin.{}.svc", world.namespace)]);
    assert_eq!(get::<Service>(&world, "eem-admin").await.unwrap().metadata.uid, service.metadata.uid);

    world.change("Instance", "eem", json!({"manager": {"endpoints": null}})).await.unwrap();
    await_gone::<Service>(&world, "eem-admin").await;
    assert!(uris(&says(&world, "eem", "Accepted").await).is_empty());
    assert!(get::<Service>(&world, "eem-manager").await.is_some(), "what the user made stays");
}

#[tokio::test]
async fn a_disabled_endpoint_has_neither_service_nor_ingress_and_refuses_every_token() {
    let (world, _operator) = operated("disabled").await;
    let verifier = world.verifier(&Held::default()).await;
    world.accepts("Instance", "eem", internal()).await;
    says(&world, "eem", "Accepted").await;
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})).await;
    let value = world.await_generation("ci", 1).await;
    world.await_verdict(&verifier, &value, 200).await;
    // Otherwise the note of the use could come between, and the update would be told by no event.
    let used = async || (!world.token("ci").await.status?.used().is_empty()).then_some(());
    world.eventually("its use is noted", used).await;
    world
        .change("Instance", "eem", json!({"manager": {"endpoints": [{"name": "admin", "type": "disabled"}]}}))
        .await
        .unwrap();
    await_gone::<Service>(&world, "eem-admin").await;
    world.await_verdict(&verifier, &value, 403).await;
    world.await_events("Instance", "eem", &["Accepted", "EndpointDisabled"]).await;
    // Its Secret no longer holds the endpoint.
    world.await_events("ApiToken", "ci", &["EndpointDisabled", "Issued", "SecretUpdated"]).await;
    world.change("Instance", "eem", internal()).await.unwrap();
    world.await_verdict(&verifier, &value, 200).await;
    world.eventually("the Service is back", async || get::<Service>(&world, "eem-admin").await).await;
}

#[tokio::test]
async fn narrowing_needs_no_service_of_the_manager() {
    let (world, _operator) = operated("narrowed").await;
    world.accepts("Instance", "eem", external(json!({}))).await;
    says(&world, "eem", "Accepted").await;
    remove::<Service>(&world, "eem-manager").await;
    let instance = says(&world, "eem", "ServiceMissing").await;
    assert_eq!(uris(&instance), ["http://admin.example.com"]);
    assert!(get::<Ingress>(&world, "eem-admin").await.is_some(), "what stands is kept meanwhile");
    world.change("Instance", "eem", internal()).await.unwrap();
    await_gone::<Ingress>(&world, "eem-admin").await;
    assert!(uris(&says(&world, "eem", "ServiceMissing").await).is_empty(), "no way in is promised that was taken away");
    assert!(get::<Service>(&world, "eem-admin").await.is_some());
}

/// A Service or Ingress of the name that an endpoint needs, which someone else made, is untouched and waited for.
async fn respects<K: Object + PartialEq>(name: &str, spec: Value, theirs: Value) {
    let (world, _operator) = operated(name).await;
    let other = make::<ConfigMap>(&world, json!({"metadata": {"name": "other"}})).await.metadata.uid;
    let stranger =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": other, "controller": true}]);
    // One with our label, and one that belongs to another owner as well: whose it is, the owner's uid alone says.
    let metas = [
        json!({"name": "eem-admin"}),
        json!({"name": "eem-admin", "labels": {"app.kubernetes.io/managed-by": "tokenry"}}),
    ];
    world.accepts("Instance", "eem", json!({})).await;
    let uid = says(&world, "eem", "Accepted").await.metadata.uid.unwrap();
    let disguised = json!({
        "name": "eem-admin", "ownerReferences": stranger,
        "labels": {"app.kubernetes.io/managed-by": "tokenry", "tokenry.dev/owner-uid": uid},
    });
    for meta in metas.into_iter().chain([disguised]) {
        world.change("Instance", "eem", json!({"manager": {"endpoints": null}})).await.unwrap();
        await_gone::<Service>(&world, "eem-admin").await;
        await_gone::<Ingress>(&world, "eem-admin").await;
        make::<K>(&world, json!({"metadata": meta, "spec": theirs})).await;
        let before = get::<K>(&world, "eem-admin").await.unwrap();
        world.change("Instance", "eem", spec.clone()).await.unwrap();
        let instance = says(&world, "eem", "EndpointForeign").await;
        assert_eq!(holding(&instance), ["Accepted", "Stalled"]);
        let (status, reason, message) = condition(&instance, "EndpointsReady").unwrap();
        assert_eq!((status.as_str(), reason.as_str()), ("False", "EndpointForeign"));
        let kind = K::kind(&());
        let told = format!("{kind} eem-admin exists and is not this Instance's; delete it, or rename the Instance");
        assert_eq!(message, told);
        assert_eq!(get::<K>(&world, "eem-admin").await.unwrap(), before);
        assert!(uris(&instance).is_empty(), "no way in is promised that does not stand");
        remove::<K>(&world, "eem-admin").await;
        says(&world, "eem", "Accepted").await;
        let ours = get::<K>(&world, "eem-admin").await.unwrap();
        assert_ne!(ours.meta().uid, before.meta().uid);
        assert_eq!(ours.meta().owner_references.as_ref().unwrap()[0].uid, uid);
    }
    let told = world.events("Instance", "eem").await;
    assert!(told.iter().any(|event| event == "EndpointBlocked"), "{told:?}");
}

#[tokio::test]
async fn a_service_of_someone_else_is_never_touched_and_waited_for() {
    let theirs = json!({"selector": {"app": "theirs"}, "ports": [{"port": 443}]});
    respects::<Service>("foreign-service", internal(), theirs).await;
}

#[tokio::test]
async fn an_ingress_of_someone_else_is_never_touched_and_waited_for() {
    let theirs = json!({"defaultBackend": {"service": {"name": "theirs", "port": {"number": 80}}}});
    respects::<Ingress>("foreign-ingress", external(json!({})), theirs).await;
}

#[tokio::test]
async fn a_way_in_that_someone_else_took_is_not_promised_any_more() {
    let (world, operator) = operated("taken").await;
    world.accepts("Instance", "eem", external(json!({}))).await;
    assert_eq!(uris(&says(&world, "eem", "Accepted").await), ["http://admin.example.com"]);
    operator.stop().await;
    remove::<Ingress>(&world, "eem-admin").await;
    let theirs = json!({"defaultBackend": {"service": {"name": "theirs", "port": {"number": 80}}}});
    make::<Ingress>(&world, json!({"metadata": {"name": "eem-admin"}, "spec": theirs})).await;
    let _operator = world.operator(&Held::default()).await;
    assert!(uris(&says(&world, "eem", "EndpointForeign").await).is_empty());
    remove::<Ingress>(&world, "eem-admin").await;
    assert_eq!(uris(&says(&world, "eem", "Accepted").await), ["http://admin.example.com"]);
}

#[tokio::test]
async fn what_is_foreign_stays_when_no_endpoint_is_wanted_any_more() {
    let (world, operator) = operated("spared").await;
    let theirs = json!({"metadata": {"name": "eem-admin"}, "spec": {"ports": [{"port": 443}]}});
    make::<Service>(&world, theirs).await;
    world.accepts("Instance", "eem", internal()).await;
    says(&world, "eem", "EndpointForeign").await;
    let before = get::<Service>(&world, "eem-admin").await;
    world.change("Instance", "eem", json!({"manager": null})).await.unwrap();
    says(&world, "eem", "Accepted").await;
    world.delete("Instance", "eem").await;
    await_gone::<Instance>(&world, "eem").await;
    operator.stop().await;
    assert_eq!(get::<Service>(&world, "eem-admin").await, before);
}

#[tokio::test]
async fn the_managers_own_service_is_never_taken_for_the_endpoints() {
    let (world, _operator) = operated("itself").await;
    let spec = json!({"selector": {"app": "eem"}, "ports": [{"port": 443}]});
    make::<Service>(&world, json!({"metadata": {"name": "eem-admin"}, "spec": spec})).await;
    let before = get::<Service>(&world, "eem-admin").await;
    let endpoints = json!([{"name": "admin", "type": "internal"}]);
    let own = json!({"manager": {"service": {"name": "eem-admin"}, "endpoints": endpoints}});
    world.accepts("Instance", "eem", own).await;
    let instance = says(&world, "eem", "Invalid").await;
    let told = "spec.manager.service: eem-admin is the name of the endpoint's own Service; rename the Instance or that Service";
    assert_eq!(condition(&instance, "Accepted").unwrap(), ("False".into(), "Invalid".into(), told.into()));
    assert_eq!(get::<Service>(&world, "eem-admin").await, before);
}

#[tokio::test]
async fn a_service_that_someone_changed_is_mended() {
    let (world, _operator) = operated("drift").await;
    world.accepts("Instance", "eem", internal()).await;
    says(&world, "eem", "Accepted").await;
    let good = get::<Service>(&world, "eem-admin").await.unwrap();
    let wanted = good.spec.clone().unwrap();
    for (what, change) in [
        ("another target", json!({"spec": {"ports": [{"name": "https", "port": 443, "targetPort": 8080}]}})),
        ("another name", json!({"spec": {"ports": [{"name": "tls", "port": 443, "targetPort": "api"}]}})),
        ("another selector", json!({"spec": {"selector": {"app": "other"}}})),
        ("a narrower selector", json!({"spec": {"selector": {"track": "none"}}})),
        ("no selector", json!({"spec": {"selector": null}})),
        ("another type", json!({"spec": {"type": "NodePort"}})),
        ("no labels", json!({"metadata": {"labels": null}})),
    ] {
        merge::<Service>(&world, "eem-admin", change).await;
        let mended = async || {
            let service = get::<Service>(&world, "eem-admin").await?;
            let spec = service.spec.unwrap();
            (spec.ports == wanted.ports
                && spec.selector == wanted.selector
                && spec.type_ == wanted.type_
                && service.metadata.labels == good.metadata.labels)
                .then_some(())
        };
        world.eventually(&format!("a Service with {what} is mended"), mended).await;
    }
    assert_eq!(get::<Service>(&world, "eem-admin").await.unwrap().metadata.uid, good.metadata.uid);
    says(&world, "eem", "Accepted").await;
}

#[tokio::test]
async fn a_port_that_someone_put_in_the_place_of_ours_or_beside_it_goes() {
    let (world, _operator) = operated("ports").await;
    world.accepts("Instance", "eem", internal()).await;
    says(&world, "eem", "Accepted").await;
    let wanted = get::<Service>(&world, "eem-admin").await.unwrap().spec.unwrap().ports;
    for theirs in [
        json!([{"name": "https", "port": 444, "targetPort": "api"}]),
        json!([{"name": "https", "port": 443, "protocol": "UDP"}]),
        json!([{"name": "a", "port": 1}, {"name": "b", "port": 2}]),
    ] {
        merge::<Service>(&world, "eem-admin", json!({"spec": {"ports": theirs}})).await;
        let mended = async || (get::<Service>(&world, "eem-admin").await?.spec?.ports == wanted).then_some(());
        world.eventually("the port is ours again", mended).await;
    }
    says(&world, "eem", "Accepted").await;

    let before = get::<Service>(&world, "eem-admin").await.unwrap();
    let mut both = serde_json::to_value(&wanted).unwrap();
    both.as_array_mut().unwrap().push(json!({"name": "debug", "port": 9000}));
    merge::<Service>(&world, "eem-admin", json!({"spec": {"ports": both}})).await;
    let mended = async || {
        let service = get::<Service>(&world, "eem-admin").await?;
        (service.spec.as_ref()?.ports == wanted).then_some(service)
    };
    let after = world.eventually("the port beside it is gone", mended).await;
    assert_eq!(after.metadata.uid, before.metadata.uid, "it is mended, not made anew");
}

#[tokio::test]
async fn a_service_that_was_mended_still_follows_its_instance() {
    let (world, _operator) = operated("followed").await;
    merge::<Service>(
        &world,
        "eem-manager",
        json!({"spec": {"ports": [{"name": "a", "port": 443}, {"name": "b", "port": 8443}]}}),
    )
    .await;
    world.accepts("Instance", "eem", internal()).await;
    says(&world, "eem", "Accepted").await;
    let ports = async |wanted: i32| {
        let what = format!("the Service has port {wanted} alone");
        let look = async || {
            let ports = get::<Service>(&world, "eem-admin").await?.spec?.ports?;
            (ports.len() == 1 && ports[0].port == wanted).then_some(())
        };
        world.eventually(&what, look).await;
    };
    merge::<Service>(&world, "eem-admin", json!({"spec": {"ports": [{"name": "https", "port": 1}]}})).await;
    ports(443).await;
    world.change("Instance", "eem", json!({"manager": {"service": {"port": 8443}}})).await.unwrap();
    ports(8443).await;
    let instance = says(&world, "eem", "Accepted").await;
    assert_eq!(uris(&instance), [format!("https://eem-admin.{}.svc:8443", world.namespace)]);
}

#[tokio::test]
async fn an_ingress_that_someone_changed_or_deleted_is_mended() {
    let (world, _operator) = operated("ingress-drift").await;
    served_by_traefik(&world).await;
    let full = json!({"className": "traefik", "annotations": {"a": "b"}, "tls": {"secretName": "admin-tls"}});
    world.accepts("Instance", "eem", external(full)).await;
    says(&world, "eem", "Accepted").await;
    let good = get::<Ingress>(&world, "eem-admin").await.unwrap();
    let as_good = async || {
        let ingress = get::<Ingress>(&world, "eem-admin").await?;
        let same = ingress.spec == good.spec && ingress.metadata.annotations == good.metadata.annotations;
        same.then_some(ingress.metadata.uid.unwrap())
    };
    let backend = json!({"service": {"name": "evil", "port": {"number": 443}}});
    let rule = |host: &str| json!({"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}});
    for (what, change) in [
        ("another class", json!({"spec": {"ingressClassName": "nginx"}})),
        ("another backend", json!({"spec": {"rules": [rule("admin.example.com")]}})),
        ("another host", json!({"spec": {"rules": [rule("evil.example.com")]}})),
        (
            "one more rule",
            json!({"spec": {"rules": [good.spec.as_ref().unwrap().rules.as_ref().unwrap()[0], rule("x.example.com")]}}),
        ),
        ("no TLS", json!({"spec": {"tls": null}})),
        ("another annotation", json!({"metadata": {"annotations": {"a": "c"}}})),
        ("no annotation", json!({"metadata": {"annotations": {"a": null}}})),
    ] {
        merge::<Ingress>(&world, "eem-admin", change).await;
        let uid = world.eventually(&format!("an Ingress with {what} is mended"), as_good).await;
        assert_eq!(Some(uid), good.metadata.uid);
    }
    remove::<Ingress>(&world, "eem-admin").await;
    let uid = world.eventually("a deleted Ingress is there again", as_good).await;
    assert_ne!(Some(uid), good.metadata.uid);

    remove::<Service>(&world, "eem-admin").await;
    let again = async || get::<Service>(&world, "eem-admin").await.map(|_| ());
    world.eventually("a deleted Service is there again", again).await;
}

#[tokio::test]
async fn a_managers_service_that_is_missing_or_unusable_is_told_and_waited_for() {
    let world = World::new("unusable").await;
    let _operator = world.operator(&Held::default()).await;
    world.accepts("Instance", "eem", internal()).await;
    let told = |instance: &Instance| condition(instance, "EndpointsReady").unwrap().2;
    let instance = says(&world, "eem", "ServiceMissing").await;
    assert_eq!(
        told(&instance),
        "spec.manager.service: there is no Service eem-manager in this namespace; create it or name another"
    );
    assert_eq!(holding(&instance), ["Accepted", "Reconciling"], "what does not exist may be about to");

    let ports = json!([{"port": 8443}]);
    make::<Service>(&world, json!({"metadata": {"name": "eem-manager"}, "spec": {"ports": ports}})).await;
    let instance = says(&world, "eem", "ServiceUnusable").await;
    let message = "spec.manager.service: Service eem-manager has no port 443; name one that it has";
    assert_eq!(told(&instance), message);
    assert_eq!(holding(&instance), ["Accepted", "Stalled"]);

    merge::<Service>(&world, "eem-manager", json!({"spec": {"ports": [{"port": 443}]}})).await;
    let message = "spec.manager.service: Service eem-manager selects no Pods; name one that has a selector";
    let look = async || {
        let instance = get::<Instance>(&world, "eem").await?;
        (told(&instance) == message).then_some(())
    };
    world.eventually("the missing selector is told", look).await;
    assert_eq!(get::<Service>(&world, "eem-admin").await, None);

    merge::<Service>(&world, "eem-manager", json!({"spec": {"selector": {"app": "eem"}}})).await;
    says(&world, "eem", "Accepted").await;

    // It follows the manager's Service from then on.
    merge::<Service>(&world, "eem-manager", json!({"spec": {"selector": {"app": "eem2"}}})).await;
    let followed = async || {
        let selector = get::<Service>(&world, "eem-admin").await?.spec?.selector?;
        (selector == [("app".to_owned(), "eem2".to_owned())].into()).then_some(())
    };
    world.eventually("the selector follows", followed).await;
}

#[tokio::test]
async fn what_the_cluster_refuses_of_an_endpoint_is_told_and_tried_again() {
    let (world, _operator) = operated("refused").await;
    world.accepts("Instance", "eem", external(json!({"annotations": {"no key": "x"}}))).await;
    let instance = says(&world, "eem", "EndpointFailed").await;
    let (status, _, message) = condition(&instance, "EndpointsReady").unwrap();
    assert_eq!(status, "False");
    assert!(
        message.starts_with(&format!("patch Ingress {}/eem-admin: refused as invalid: ", world.namespace))
            && message.ends_with("; trying again"),
        "{message}"
    );
    assert!(message.contains("name part must consist of alphanumeric characters"), "{message}");
    world.change("Instance", "eem", external(json!({}))).await.unwrap();
    says(&world, "eem", "Accepted").await;
}

#[tokio::test]
async fn a_name_that_no_service_could_have_works_too() {
    let (world, _operator) = operated("names").await;
    let longest = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
    assert_eq!(longest.len(), 253);
    let mut services = std::collections::BTreeSet::new();
    for name in [longest.as_str(), &longest[1..], "9lives", "eem.example", "eem-example"] {
        world.accepts("Instance", name, external(json!({}))).await;
        let instance = says(&world, name, "Accepted").await;
        let uid = instance.metadata.uid.as_deref().unwrap();
        let owned = ListParams::default().labels(&format!("tokenry.dev/owner-uid={uid}"));
        let made = world.api::<Service>().list(&owned).await.unwrap().items;
        let [service] = &made[..] else { panic!("{name} has {} Services", made.len()) };
        let service = service.metadata.name.clone().unwrap();
        assert!(get::<Ingress>(&world, &service).await.is_some());
        world.change("Instance", name, internal()).await.unwrap();
        let uri = format!("https://{service}.{}.svc", world.namespace);
        let said = async || (uris(&get::<Instance>(&world, name).await?) == [uri.as_str()]).then_some(());
        world.eventually("the URI names the Service", said).await;
        services.insert(service);
    }
    assert_eq!(services.len(), 5);
}

#[tokio::test]
async fn a_deleted_instance_takes_its_endpoint_along_and_needs_nobody_alive() {
    let (world, operator) = operated("deleted").await;
    world.accepts("Instance", "eem", external(json!({}))).await;
    says(&world, "eem", "Accepted").await;
    operator.stop().await;
    world.delete("Instance", "eem").await;
    await_gone::<Service>(&world, "eem-admin").await;
    await_gone::<Ingress>(&world, "eem-admin").await;
    assert!(get::<Service>(&world, "eem-manager").await.is_some());
}

#[tokio::test]
async fn the_secret_follows_the_instance_without_a_new_generation() {
    let (world, _operator) = operated("follow").await;
    world.smallest().await;
    let value = world.await_generation("ci", 1).await;
    let follows = async |organization: &str, endpoint: &str| {
        let what = format!("the Secret says {organization:?} and {endpoint:?}");
        let look = async || {
            let said = (world.key("ci", "organization").await?, world.key("ci", "endpoint").await?);
            (said == (organization.to_owned(), endpoint.to_owned())).then_some(())
        };
        world.eventually(&what, look).await;
        let said = async || {
            let status = world.token("ci").await.status?;
            (status.organization.as_deref() == Some(organization)).then_some(())
        };
        world.eventually("the status says so too", said).await;
    };
    follows("eem", "").await;
    world.change("Instance", "eem", json!({"organization": "acme"})).await.unwrap();
    follows("acme", "").await;
    world.change("Instance", "eem", internal()).await.unwrap();
    follows("acme", &format!("https://eem-admin.{}.svc", world.namespace)).await;
    world.change("Instance", "eem", external(json!({"tls": {}}))).await.unwrap();
    follows("acme", "https://admin.example.com").await;
    world.change("Instance", "eem", json!({"organization": null, "manager": null})).await.unwrap();
    follows("eem", "").await;

    world.await_reason("ci", "Active").await;
    assert_eq!(world.value("ci").await, Some(value));
    assert_eq!(world.token("ci").await.status.unwrap().last_generation, Some(1));
}

/// What `Accepted` of a token says when it is false.
async fn refusal(world: &World, name: &str) -> (String, String) {
    let accepted = world.condition(name, "Accepted").await.unwrap();
    assert_eq!(accepted.status, "False");
    (accepted.reason, accepted.message)
}

/// Nothing was minted for a token, made for it or delivered.
async fn unserved(world: &World, name: &str) {
    let status = world.token(name).await.status.unwrap();
    assert!(status.records.is_empty() && status.last_generation.is_none() && status.account.is_none(), "{status:?}");
    assert_eq!(world.value(name).await, None);
}

#[tokio::test]
async fn an_instance_that_is_missing_is_waited_for() {
    let world = World::new("no-instance").await;
    let _operator = world.operator(&Held::default()).await;
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})).await;
    world.await_reason("ci", "InstanceMissing").await;
    let message = format!(
        "spec.instanceRef: there is no Instance eem in namespace {}; create it, or make a token for another",
        world.namespace
    );
    assert_eq!(refusal(&world, "ci").await, ("InstanceMissing".into(), message));
    assert_eq!(world.condition("ci", "Reconciling").await.unwrap().status, "True");
    unserved(&world, "ci").await;
    world.await_events("ApiToken", "ci", &["Waiting"]).await;
    world.accepts("Instance", "eem", json!({})).await;
    world.await_reason("ci", "Active").await;
}

#[tokio::test]
async fn an_instance_that_was_deleted_takes_its_tokens_out_of_service_until_it_is_back() {
    let world = World::new("instance-gone").await;
    let clock = Held::default();
    let (_operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.smallest().await;
    let value = world.await_generation("ci", 1).await;
    world.delete("Instance", "eem").await;
    world.await_reason("ci", "InstanceMissing").await;
    verdict(&verifier, &world, &value, 401).await;
    assert_eq!(world.value("ci").await.as_ref(), Some(&value), "what was delivered stays");
    world.accepts("Instance", "eem", json!({})).await;
    world.await_reason("ci", "Active").await;
    verdict(&verifier, &world, &value, 200).await;
    assert_eq!(world.value("ci").await, Some(value));
}

/// Waits until a value, presented to the Instance `eem` of `world`, gets this status.
async fn verdict(verifier: &Running, world: &World, value: &str, status: u16) {
    let what = format!("the verifier says {status}");
    world.eventually(&what, async || (verifier.present(world, value).await == status).then_some(())).await;
}

#[tokio::test]
async fn what_a_token_asks_beyond_its_instances_maximum_is_refused_until_one_of_them_changes() {
    let world = World::new("beyond").await;
    let _operator = world.operator(&Held::default()).await;
    let policy = json!({"tokens": {"lifetime": {"max": "30d"}, "overlap": {"max": "2h"}}});
    world.accepts("Instance", "eem", policy).await;
    let token = |more: Value| {
        let mut spec = json!({"instanceRef": {"name": "eem"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let long = "spec.expiry.after: must not be longer than the Instance's maximum, 30d";
    let wide = "spec.rotation.overlap: must not be longer than the Instance's maximum, 2h";
    let late = "spec.rotation.schedule.every: must be shorter than the lifetime, 30d";
    let both = format!("{long}; {wide}");
    let (exceeded, overlap) = ("LifetimeExceeded", "OverlapExceeded");
    for (name, spec, reason, message) in [
        ("long", token(json!({"expiry": {"after": "31d"}})), exceeded, long),
        ("wide", token(json!({"rotation": {"overlap": "121m"}})), overlap, wide),
        ("late", token(json!({"rotation": {"schedule": {"every": "30d"}}})), "Invalid", late),
        ("both", token(json!({"expiry": {"after": "31d"}, "rotation": {"overlap": "3h"}})), exceeded, &both),
    ] {
        world.accepts("ApiToken", name, spec).await;
        world.await_reason(name, reason).await;
        assert_eq!(refusal(&world, name).await, (reason.into(), message.into()));
        assert_eq!(world.condition(name, "Stalled").await.unwrap().status, "True");
        unserved(&world, name).await;
        world.await_events("ApiToken", name, &["Rejected"]).await;
    }
    world
        .accepts("ApiToken", "at-most", token(json!({"expiry": {"after": "30d"}, "rotation": {"overlap": "2h"}})))
        .await;
    world.await_reason("at-most", "Active").await;

    world.change("ApiToken", "long", json!({"expiry": {"after": "30d"}})).await.unwrap();
    world.await_reason("long", "Active").await;
    world
        .change("Instance", "eem", json!({"tokens": {"lifetime": {"max": "31d"}, "overlap": {"max": "3h"}}}))
        .await
        .unwrap();
    for name in ["wide", "late", "both"] {
        world.await_reason(name, "Active").await;
    }
}

#[tokio::test]
async fn a_fault_of_the_instance_is_told_by_it_and_by_its_tokens() {
    let world = World::new("faulty").await;
    let _operator = world.operator(&Held::default()).await;
    // No rule of the schema can tell what is a label selector.
    let odd = json!({"matchExpressions": [{"key": "a", "operator": "Odd"}]});
    world.accepts("Instance", "eem", json!({"tokens": {"namespaces": {"from": "Selector", "selector": odd}}})).await;
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})).await;
    let fault =
        "spec.tokens.namespaces.selector: is not a label selector; give matchLabels or matchExpressions".to_owned();
    let instance = says(&world, "eem", "Invalid").await;
    assert_eq!(condition(&instance, "Accepted").unwrap(), ("False".into(), "Invalid".into(), fault.clone()));
    assert_eq!(holding(&instance), ["Stalled"]);
    world.await_reason("ci", "InstanceInvalid").await;
    assert!(refusal(&world, "ci").await.1.contains(&format!("Instance eem has faults: {fault}")));
    unserved(&world, "ci").await;
    world.change("Instance", "eem", json!({"tokens": {"namespaces": null}})).await.unwrap();
    says(&world, "eem", "Accepted").await;
    world.await_reason("ci", "Active").await;

    // A default of one field against the other's left-out maximum is beyond the schema too.
    world.change("Instance", "eem", json!({"tokens": {"lifetime": {"default": "366d"}}})).await.unwrap();
    let instance = says(&world, "eem", "Invalid").await;
    let fault = "spec.tokens.lifetime.default: must not be longer than the maximum, 365d";
    assert_eq!(condition(&instance, "Ready").unwrap().2, fault);
    world.await_reason("ci", "InstanceInvalid").await;
    assert!(world.value("ci").await.is_some(), "what was delivered stays");
}

/// A control plane of its own, whose operators and verifiers look at all namespaces: an Instance `eem` with this
/// admission in one namespace.
async fn home(admission: Value) -> World {
    let world = World::alone("home").await;
    world.plane.install_crds(crate::harness::root()).unwrap();
    world.accepts("Instance", "eem", json!({"tokens": {"namespaces": admission}})).await;
    world
}

async fn relabel(world: &World, labels: Value) {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    namespaces.patch(&world.namespace, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn an_instance_says_which_namespaces_its_tokens_may_live_in() {
    let home = home(json!({"from": "Same"})).await;
    let clock = Held::default();
    let (_operator, verifier) = (home.operator(&clock).await, home.verifier(&clock).await);
    let away = home.beside("away", json!({"team": "b"})).await;
    let afar = json!({"instanceRef": {"name": "eem", "namespace": home.namespace}});
    home.accepts("ApiToken", "ci", afar.clone()).await;
    away.accepts("ApiToken", "ci", afar).await;
    away.accepts("ApiToken", "lost", json!({"instanceRef": {"name": "eem"}})).await;

    // Same: its own alone.
    let own = home.await_generation("ci", 1).await;
    verdict(&verifier, &home, &own, 200).await;
    let message = format!(
        "spec.instanceRef: Instance {}/eem does not admit tokens of namespace {}; change its tokens.namespaces, \
         or create the token in another namespace",
        home.namespace, away.namespace
    );
    away.await_reason("ci", "NamespaceNotAdmitted").await;
    assert_eq!(refusal(&away, "ci").await, ("NamespaceNotAdmitted".into(), message));
    unserved(&away, "ci").await;
    away.await_events("ApiToken", "ci", &["Rejected"]).await;
    // A token elsewhere that does not name the Instance's namespace means another one.
    away.await_reason("lost", "InstanceMissing").await;

    // All: every one.
    admit(&home, json!({"from": "All"})).await;
    let value = away.await_generation("ci", 1).await;
    away.await_reason("ci", "Active").await;
    verdict(&verifier, &home, &value, 200).await;
    assert_eq!(away.key("ci", "organization").await.as_deref(), Some("eem"));

    // Selector: by the labels that the namespace has now.
    admit(&home, json!({"from": "Selector", "selector": {"matchLabels": {"team": "a"}}})).await;
    for name in [(&home, &own), (&away, &value)] {
        name.0.await_reason("ci", "NamespaceNotAdmitted").await;
        verdict(&verifier, &home, name.1, 403).await;
    }
    relabel(&away, json!({"team": "a"})).await;
    away.await_reason("ci", "Active").await;
    verdict(&verifier, &home, &value, 200).await;
    relabel(&away, json!({"team": null})).await;
    away.await_reason("ci", "NamespaceNotAdmitted").await;
    verdict(&verifier, &home, &value, 403).await;

    // Nothing was minted anew or taken away by it, and nothing is now that time passes.
    assert_eq!(away.value("ci").await.as_ref(), Some(&value));
    clock.move_by(crate::harness::clock::hours(91 * 24));
    let expired = async || {
        let status = away.token("ci").await.status?;
        (format!("{:?}", status.records[0].state) == "Expired").then_some(status)
    };
    let status = away.eventually("the generation expired", expired).await;
    assert_eq!(status.last_generation, Some(1), "no other is minted for a token that is not admitted");
    verdict(&verifier, &home, &value, 401).await;

    admit(&home, json!({"from": "Selector", "selector": {"matchLabels": null}})).await;
    let next = away.await_generation("ci", 2).await;
    verdict(&verifier, &home, &next, 200).await;
}

/// Says which namespaces the Instance of `home` admits.
async fn admit(home: &World, namespaces: Value) {
    let mut whole = json!({"from": null, "selector": null});
    whole.as_object_mut().unwrap().extend(namespaces.as_object().unwrap().clone());
    home.change("Instance", "eem", json!({"tokens": {"namespaces": whole}})).await.unwrap();
}

#[tokio::test]
async fn a_cluster_without_ingresses_is_told_where_one_is_needed_and_holds_up_nothing_else() {
    let world = World::new("unserved").await;
    let wire = Wire::new(world.plane.client_for(&world.identities.operator)).await;
    wire.hide(Some("networking.k8s.io"));
    let operator = world.operator_by(wire.client(), &Held::default()).await;
    world.ready(&operator).await;
    manager(&world).await;
    world.accepts("Instance", "eem", internal()).await;
    says(&world, "eem", "Accepted").await;
    world.accepts("ApiToken", "ci", json!({"instanceRef": {"name": "eem"}})).await;
    world.await_reason("ci", "Active").await;
    world.change("Instance", "eem", external(json!({}))).await.unwrap();
    let instance = says(&world, "eem", "EndpointUnserved").await;
    let (_, _, message) = condition(&instance, "EndpointsReady").unwrap();
    assert!(message.starts_with("the cluster does not serve Ingress, which endpoint admin needs; "), "{message}");
    assert!(uris(&instance).is_empty());
    wire.hide(None);
    let standing = async || get::<Ingress>(&world, "eem-admin").await;
    world.patiently(Duration::from_secs(90), "the Ingress stands once the cluster serves it", standing).await;
    says(&world, "eem", "Accepted").await;
}

/// The operator asks each half a minute for the kinds that the cluster serves.
#[tokio::test]
async fn a_definition_that_is_removed_while_it_is_used_is_told_until_it_is_back() {
    let world = World::new("removed").await;
    let wire = Wire::new(world.plane.client_for(&world.identities.operator)).await;
    let _operator = world.operator_by(wire.client(), &Held::default()).await;
    manager(&world).await;
    world.accepts("Instance", "eem", external(json!({}))).await;
    says(&world, "eem", "Accepted").await;
    let says_later = async |reason: &str| {
        let told = async || {
            let instance = get::<Instance>(&world, "eem").await.unwrap();
            condition(&instance, "Ready").filter(|(_, told, _)| told == reason).map(|(_, _, message)| message)
        };
        world.patiently(Duration::from_secs(120), &format!("Ready has the reason {reason}"), told).await
    };
    wire.hide(Some("networking.k8s.io"));
    let message = says_later("EndpointUnserved").await;
    assert!(message.starts_with("the cluster does not serve Ingress, which endpoint admin needs"), "{message}");
    wire.hide(None);
    says_later("Accepted").await;
    assert!(get::<Ingress>(&world, "eem-admin").await.is_some());
}

#[tokio::test]
async fn an_internal_endpoint_has_a_network_policy_unless_it_says_otherwise() {
    let (world, _operator) = operated("limited").await;
    let mut spec = internal();
    spec["manager"].as_object_mut().unwrap().remove("networkPolicy");
    world.accepts("Instance", "eem", spec).await;
    says(&world, "eem", "Accepted").await;
    let made = get::<NetworkPolicy>(&world, "eem-admin").await.unwrap();
    let spec = serde_json::to_value(made.spec).unwrap();
    assert_eq!(spec["podSelector"]["matchLabels"], json!({"app": "eem"}));
    assert_eq!(spec["policyTypes"], json!(["Ingress"]));
    world.change("Instance", "eem", internal()).await.unwrap();
    await_gone::<NetworkPolicy>(&world, "eem-admin").await;
}
