//! The controller of an Ingress. The guards Traefik and Nginx are settings of one controller, and any other controller
//! ignores them.

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use super::{Exposed, ExposureConfig, Piece, ingress};
use crate::crd::{
    ObjectName,
    endpoint::{Endpoint, Guard, IngressTemplate, WayIn},
};

/// The annotation of the cluster's default class.
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

/// The classes of the cluster, or the reason why they cannot be read.
pub type Classes = Result<Vec<IngressClass>, String>;

/// The controller that serves an Ingress, as far as a guard depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// The guard depends on no controller, or on the one that serves the Ingress.
    Fitting,
    /// Another controller serves the Ingress, or none, in words.
    Other(String),
    /// The classes cannot be read, in words.
    Unknown(String),
}

/// The `spec.controller` of the classes whose Ingresses this guard works on. `None` if the guard depends on no class.
pub fn controller(guard: Guard) -> Option<&'static str> {
    match guard {
        Guard::Traefik => Some("traefik.io/ingress-controller"),
        Guard::Nginx => Some("k8s.io/ingress-nginx"),
        Guard::EnvoyGateway | Guard::ExternalAuth | Guard::Istio | Guard::Backend | Guard::None => None,
    }
}

/// The controller that the guard of an endpoint with this way in needs. `None` if it depends on no class.
pub fn needed(endpoint: &Endpoint, way: Option<WayIn>) -> Option<&'static str> {
    endpoint.guarding().filter(|_| way == Some(WayIn::Ingress)).and_then(controller)
}

/// Names the class in the Ingress of `exposed`, so that nobody else chooses it. The one of the spec or of the chart
/// comes first, then the one of the existing Ingress, then the default of the cluster. Returns the controller of that
/// class.
pub fn choose(exposed: &mut Exposed, existing: Option<&Piece>, classes: Option<&Classes>) -> Served {
    let Some(controller) = needed(&exposed.endpoint, exposed.way) else { return Served::Fitting };
    let guard = exposed.guard().as_str();
    let classes = match classes {
        Some(Ok(classes)) => classes,
        Some(Err(why)) => return Served::Unknown(format!("the guard {guard} needs the class of the Ingress: {why}")),
        None => return Served::Unknown(format!("the guard {guard} needs the class of the Ingress")),
    };
    let Some(name) = chosen(&exposed.endpoint, &exposed.config, existing, classes) else {
        return Served::Other(format!(
            "the guard {guard} needs an Ingress with a class, and the cluster has no default one; give \
             ingress.className"
        ));
    };
    let template = ingress::template(&exposed.endpoint, &exposed.config);
    let class = classes.iter().find(|class| class.metadata.name.as_deref() == Some(name.as_str()));
    let serves = class.and_then(|class| class.spec.as_ref()?.controller.as_deref());
    let served = match serves {
        Some(serves) if serves == controller => Served::Fitting,
        Some(serves) => Served::Other(format!(
            "IngressClass {name} belongs to {serves}, which ignores the guard {guard}; name a class of {controller} in \
             ingress.className, or choose another guard"
        )),
        None => Served::Other(format!("there is no IngressClass {name}, which the guard {guard} needs; create it")),
    };
    exposed.endpoint.ingress = Some(IngressTemplate { class_name: Some(name), ..template });
    served
}

/// The obstacle of an Ingress whose class does not exist, in words: no controller serves it. `None` if the endpoint
/// names no class.
pub fn missing(
    endpoint: &Endpoint,
    way: Option<WayIn>,
    config: &ExposureConfig,
    classes: &[IngressClass],
) -> Option<String> {
    let name = named(endpoint, way, config)?;
    let exists = classes.iter().any(|class| class.metadata.name.as_deref() == Some(name.as_str()));
    (!exists).then(|| {
        format!("there is no IngressClass {name}, so nobody serves the Ingress; create it, or name another in ingress.className")
    })
}

/// The class that the spec or the chart names for the Ingress of an endpoint.
pub fn named(endpoint: &Endpoint, way: Option<WayIn>, config: &ExposureConfig) -> Option<ObjectName> {
    ingress::template(endpoint, config).class_name.filter(|_| way == Some(WayIn::Ingress))
}

/// The name of the class of the Ingress. `None` if nothing names one.
fn chosen(
    endpoint: &Endpoint,
    config: &ExposureConfig,
    existing: Option<&Piece>,
    classes: &[IngressClass],
) -> Option<ObjectName> {
    let kept = || match existing {
        Some(Piece::Ingress(ingress)) => class_of(ingress).map(ObjectName::from),
        Some(_) | None => None,
    };
    let is_default = |class: &&IngressClass| {
        let marks = class.metadata.annotations.as_ref();
        marks.is_some_and(|marks| marks.get(DEFAULT).is_some_and(|value| value == "true"))
    };
    // Kubernetes takes the newest of several default classes.
    let default = || {
        let newest = |class: &&IngressClass| class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let class = classes.iter().filter(is_default).max_by_key(newest)?;
        class.metadata.name.as_deref().map(ObjectName::from)
    };
    ingress::template(endpoint, config).class_name.or_else(kept).or_else(default)
}

fn class_of(ingress: &Ingress) -> Option<&str> {
    ingress.spec.as_ref()?.ingress_class_name.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposure::tests::{exposed_of, instance};
    use serde_json::{Value, json};

    fn exposed(ingress: Value, guard: &str) -> Exposed {
        let endpoint = json!({"name": "admin", "host": "a.example.com", "ingress": ingress, "guard": guard});
        exposed_of(&instance(json!({"service": {"name": "m"}, "endpoints": [endpoint]})))
    }

    fn class(name: &str, controller: &str, is_default: bool) -> IngressClass {
        serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {DEFAULT: is_default.to_string()}},
            "spec": {"controller": controller},
        }))
        .unwrap()
    }

    fn classes() -> Classes {
        Ok(vec![
            class("t", "traefik.io/ingress-controller", true),
            class("n", "k8s.io/ingress-nginx", false),
            class("h", "haproxy.org/ingress-controller", false),
        ])
    }

    #[test]
    fn a_guard_of_a_controller_needs_a_class_of_that_controller() {
        for (guard, class, is_fitting) in [
            ("Traefik", json!({"className": "t"}), true),
            ("Traefik", json!({"className": "n"}), false),
            ("Traefik", json!({"className": "h"}), false),
            ("Traefik", json!({"className": "gone"}), false),
            ("Traefik", json!({}), true),
            ("Nginx", json!({"className": "n"}), true),
            ("Nginx", json!({"className": "t"}), false),
            ("Nginx", json!({}), false),
            ("Backend", json!({"className": "h"}), true),
        ] {
            let served = choose(&mut exposed(class.clone(), guard), None, Some(&classes()));
            assert_eq!(served == Served::Fitting, is_fitting, "{guard} {class}: {served:?}");
            assert!(!matches!(served, Served::Unknown(_)), "{guard} {class}");
        }
    }

    #[test]
    fn the_class_is_written_into_the_ingress_and_stays_there() {
        let mut first = exposed(json!({}), "Traefik");
        assert_eq!(choose(&mut first, None, Some(&classes())), Served::Fitting);
        let built = ingress::build(&first).unwrap();
        assert_eq!(class_of(&built), Some("t"));
        let existing = Piece::from(built);
        let other =
            Ok(vec![class("t", "traefik.io/ingress-controller", false), class("n", "k8s.io/ingress-nginx", true)]);
        let mut later = exposed(json!({}), "Traefik");
        assert_eq!(
            choose(&mut later, Some(&existing), Some(&other)),
            Served::Fitting,
            "another default changes nothing"
        );
        assert!(matches!(choose(&mut exposed(json!({}), "Traefik"), None, Some(&other)), Served::Other(_)));
    }

    #[test]
    fn a_class_that_does_not_exist_is_told_for_each_guard() {
        let Ok(classes) = classes() else { panic!("they are read") };
        let missing = |ingress: Value, way| {
            let Exposed { endpoint, config, .. } = exposed(ingress, "Backend");
            missing(&endpoint, Some(way), &config, &classes)
        };
        let told = missing(json!({"className": "gone"}), WayIn::Ingress).unwrap();
        assert!(told.starts_with("there is no IngressClass gone"), "{told}");
        assert_eq!(missing(json!({"className": "h"}), WayIn::Ingress), None);
        assert_eq!(missing(json!({}), WayIn::Ingress), None);
        assert_eq!(missing(json!({"className": "gone"}), WayIn::Gateway), None);
    }

    #[test]
    fn classes_that_cannot_be_read_are_unknown() {
        let unread = Err("no".to_owned());
        for classes in [Some(&unread), None] {
            let served = choose(&mut exposed(json!({"className": "t"}), "Traefik"), None, classes);
            assert!(matches!(served, Served::Unknown(_)), "{served:?}");
        }
    }
}
