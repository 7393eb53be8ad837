//! Reads live the objects of others that an edge needs: Gateways and their classes, IngressClasses, and the certificate
//! of an Ingress. Administrators seldom change them, so they are not watched.

use std::collections::BTreeMap;

use kube::ResourceExt;
use serde_json::Value;

use crate::{
    controller::Rooms,
    crd::{
        Fault, Instance, Reason,
        endpoint::{Endpoint, EndpointName, WayIn},
        secret::TLS,
    },
    exposure::{
        self,
        class::{self, Classes},
        gateways::{self, Carriers},
        https,
        loose::{Gateway, GatewayClass},
    },
    outside::{Refusal, Why},
};

/// The reason why IngressClasses cannot be read.
const UNREADABLE: &str = "the operator may not list IngressClasses; give it that permission in the cluster, as the \
    chart does";

/// The state of the Gateways of each endpoint, and the first one that is not known to verify the verifier, in words.
type Carried = (BTreeMap<EndpointName, Carriers>, BTreeMap<EndpointName, String>);

/// The endpoints of an Instance that is not being deleted, with their ways in.
fn ways<'a>(
    instance: &'a Instance,
    serves_routes: bool,
    rooms: &'a Rooms,
) -> impl Iterator<Item = (&'a Endpoint, Option<WayIn>)> {
    let endpoints = instance.endpoints().filter(|_| instance.metadata.deletion_timestamp.is_none());
    endpoints.map(move |endpoint| (endpoint, exposure::way(endpoint, serves_routes, &rooms.exposure)))
}

/// The IngressClasses, if an Ingress names one or its guard depends on one.
pub(super) async fn classes(
    instance: &Instance,
    serves_routes: bool,
    rooms: &Rooms,
) -> Result<Option<Classes>, Refusal> {
    let is_needed = |(endpoint, way): (&Endpoint, Option<WayIn>)| {
        class::needed(endpoint, way).is_some() || class::named(endpoint, way, &rooms.exposure).is_some()
    };
    if !rooms.caches.exposing.ingresses.is_on() || !ways(instance, serves_routes, rooms).any(is_needed) {
        return Ok(None);
    }
    let classes = permitted(rooms.reader.ingress_classes().await)?;
    Ok(Some(classes.ok_or_else(|| UNREADABLE.into())))
}

/// The state of the Gateways of each endpoint with an HTTPRoute. The second part has entries for endpoints that need
/// the filter.
pub(super) async fn carriers(instance: &Instance, serves_routes: bool, rooms: &Rooms) -> Result<Carried, Refusal> {
    let (mut read, mut unverifying) = (BTreeMap::new(), BTreeMap::new());
    if !rooms.caches.exposing.http_routes.is_on() {
        return Ok((read, unverifying));
    }
    let home = instance.namespace().unwrap_or_default();
    for (endpoint, way) in ways(instance, serves_routes, rooms) {
        let mut found = Carriers::Fitting;
        for gateway in gateways::of(endpoint, way, &rooms.exposure, &home) {
            let needs_filter = gateways::needs_filter(endpoint);
            let (carrier, features) = carrier(&gateway, needs_filter, rooms).await?;
            if let Some(why) = https::unverifying(&gateway, features.as_ref()).filter(|_| needs_filter) {
                unverifying.entry(endpoint.name).or_insert(why);
            }
            found = match carrier {
                Carriers::Fitting => found,
                missing @ Carriers::Missing(_) => missing,
                lacking @ Carriers::Lacking(_) if found == Carriers::Fitting => lacking,
                Carriers::Lacking(_) => found,
            };
        }
        read.insert(endpoint.name, found);
    }
    Ok((read, unverifying))
}

/// The state of one Gateway, and the features that its class lists, if the filter is needed. Without the permission to
/// read it, nothing is known against it.
async fn carrier(
    gateway: &(String, String),
    needs_filter: bool,
    rooms: &Rooms,
) -> Result<(Carriers, Option<Value>), Refusal> {
    let found = match permitted(rooms.reader.recent::<Gateway>(&gateway.0, &gateway.1).await)? {
        None => return Ok((Carriers::Fitting, None)),
        Some(None) => return Ok((Carriers::Missing(gateways::missing(gateway)), None)),
        Some(Some(found)) => found,
    };
    let Some(class) = gateways::class_of(&found).filter(|_| needs_filter) else { return Ok((Carriers::Fitting, None)) };
    let class = permitted(rooms.reader.outside_namespaces::<GatewayClass>(class).await)?.flatten();
    let lacking = class.as_ref().and_then(|class| gateways::lacks_filter(gateway, class));
    let features = class.map(|class| class.status["supportedFeatures"].clone());
    Ok((lacking.map_or(Carriers::Fitting, Carriers::Lacking), features))
}

/// The certificate of each Ingress that names a Secret, or the fault that keeps it from being used.
pub(super) async fn certificates(
    instance: &Instance,
    serves_routes: bool,
    rooms: &Rooms,
) -> Result<BTreeMap<EndpointName, Result<(), Fault>>, Refusal> {
    let (home, mut read) = (instance.namespace().unwrap_or_default(), BTreeMap::new());
    for (endpoint, way) in ways(instance, serves_routes, rooms) {
        let Some(secret) = exposure::certificate(endpoint, way, &rooms.exposure) else { continue };
        let Some(found) = permitted(rooms.reader.secret_type(&home, secret.as_str()).await)? else { continue };
        read.insert(endpoint.name, certified(endpoint.name, secret.as_str(), found.as_deref()));
    }
    Ok(read)
}

/// Checks that the Secret of a certificate exists and has the type for it.
fn certified(endpoint: EndpointName, secret: &str, found: Option<&str>) -> Result<(), Fault> {
    let message = match found {
        Some(TLS) => return Ok(()),
        Some(other) => format!("Secret {secret} is of type {other:?}, not {TLS:?}; name one of that type"),
        None => format!("there is no Secret {secret} in this namespace; create it, or name another"),
    };
    let path = format!("spec.manager.endpoints[{}].ingress.tls.secretName", endpoint.as_str());
    Err(Fault::new(Reason::CertificateMissing, path, message))
}

/// The result of a read. `None` without the permission for it.
fn permitted<T>(read: Result<T, Refusal>) -> Result<Option<T>, Refusal> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(Refusal { why: Why::Forbidden(_), .. }) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_lies_in_a_secret_of_its_type() {
        let told = |found| certified(EndpointName::Admin, "a", found).err().map(|fault| fault.to_string());
        assert_eq!(told(Some(TLS)), None);
        let path = "spec.manager.endpoints[admin].ingress.tls.secretName";
        let missing = format!("{path}: there is no Secret a in this namespace; create it, or name another");
        assert_eq!(told(None), Some(missing));
        let other = told(Some("Opaque")).unwrap();
        assert!(other.starts_with(&format!("{path}: Secret a is of type \"Opaque\"")), "{other}");
    }
}
