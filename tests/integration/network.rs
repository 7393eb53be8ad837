//! The NetworkPolicies of the chart. No network plugin enforces them here: the API server takes them (`chart.rs`), and
//! these tests judge connections by the rendered rules, as the API of Kubernetes describes them.

use std::{collections::BTreeMap, net::Ipv4Addr};

use controlplane::NAMESPACE;
use serde_json::{Value, json};

use crate::harness::grants::{name, of_kind, rendered};

/// One end of a connection.
enum End {
    /// A Pod: its namespace and its labels.
    Pod(&'static str, BTreeMap<String, String>),
    /// A machine that is no Pod.
    Address(&'static str),
}

/// The rendered chart.
struct Chart(Vec<Value>);

const ON: &str = "operator.networkPolicy.enabled=true,verifier.networkPolicy.enabled=true";

impl Chart {
    fn new(sets: &str) -> Self {
        Self(rendered(&["--set", format!("{ON},{sets}").trim_end_matches(',')]))
    }

    fn component(&self, kind: &str, component: &str) -> &Value {
        let is_it = |object: &&&Value| name(object) == format!("tokenry-{component}");
        of_kind(&self.0, kind).iter().find(is_it).unwrap()
    }

    /// The labels of the Pods of a component.
    fn labels(&self, component: &str) -> BTreeMap<String, String> {
        let labels = match component {
            "test" => &self.component("Pod", "test")["metadata"]["labels"],
            _ => &self.component("Deployment", component)["spec"]["template"]["metadata"]["labels"],
        };
        serde_json::from_value(labels.clone()).unwrap()
    }

    fn pod(&self, component: &str) -> End {
        End::Pod(NAMESPACE, self.labels(component))
    }

    /// True if the policy of a component lets a connection in (`Ingress`) or out (`Egress`). The port is that of the
    /// Pod at the other end, if that is no Pod of ours.
    fn admits(&self, component: &str, way: &str, end: &End, port: u16, protocol: &str) -> bool {
        let spec = &self.component("NetworkPolicy", component)["spec"];
        assert!(selects(&spec["podSelector"], &self.labels(component)), "it selects its own Pods");
        assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
        let (rules, ends) = if way == "Ingress" { ("ingress", "from") } else { ("egress", "to") };
        // No rule at all lets nothing in or out.
        spec[rules].as_array().into_iter().flatten().any(|rule| {
            let is_end = rule[ends].as_array().is_none_or(|peers| peers.iter().any(|peer| is(peer, end)));
            let is_port = rule["ports"].as_array().is_none_or(|ports| {
                let named = |port: &Value| {
                    port["port"].as_str().map_or_else(|| port["port"].clone(), |it| self.port(component, it))
                };
                let over = |port: &Value| port["protocol"].as_str().unwrap_or("TCP") == protocol;
                ports.iter().any(|it| named(it) == port && over(it))
            });
            is_end && is_port
        })
    }

    /// The number of a port of a component, by its name.
    fn port(&self, component: &str, named: &str) -> Value {
        let pod = &self.component("Deployment", component)["spec"]["template"]["spec"];
        let ports = pod["containers"][0]["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == named);
        port.unwrap_or_else(|| panic!("{component} has no port {named}"))["containerPort"].clone()
    }
}

/// True if a selector, which is absent or has `matchLabels` alone, selects these labels.
fn selects(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let wanted = selector["matchLabels"].as_object();
    wanted.is_none_or(|wanted| wanted.iter().all(|(key, value)| labels.get(key).is_some_and(|it| value == it)))
}

/// True if a peer of a rule is this end. A peer without `namespaceSelector` is in the namespace of the policy.
fn is(peer: &Value, end: &End) -> bool {
    match end {
        End::Address(address) => peer["ipBlock"]["cidr"].as_str().is_some_and(|cidr| holds(cidr, address)),
        End::Pod(namespace, labels) => {
            let of_namespace = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), (*namespace).to_owned())]);
            let home = match &peer["namespaceSelector"] {
                Value::Null => *namespace == NAMESPACE,
                selector => selects(selector, &of_namespace),
            };
            peer["ipBlock"].is_null() && home && selects(&peer["podSelector"], labels)
        }
    }
}

/// True if the block of IPv4 addresses holds the address.
fn holds(cidr: &str, address: &str) -> bool {
    let number = |text: &str| u32::from(text.parse::<Ipv4Addr>().unwrap());
    let (base, bits) = cidr.split_once('/').unwrap();
    let free = 32 - bits.parse::<u32>().unwrap();
    number(base).checked_shr(free).unwrap_or(0) == number(address).checked_shr(free).unwrap_or(0)
}

fn proxy() -> End {
    End::Pod("gateways", BTreeMap::from([("app".into(), "proxy".into())]))
}

fn stranger() -> End {
    End::Pod("shop", BTreeMap::from([("app".into(), "proxy".into())]))
}

const API_SERVER: &str = "10.0.0.1";

#[test]
fn the_verifier_is_asked_by_those_that_the_values_name() {
    let named = "exposure.proxies[0].namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name=gateways";
    let by_policy = "verifier.networkPolicy.ingress.proxies.from[0].namespaceSelector.matchLabels.\
                     kubernetes\\.io/metadata\\.name=gateways";
    let no_scrapers = "verifier.networkPolicy.ingress.scrapers.enabled=false";
    let no_proxies = "verifier.networkPolicy.ingress.proxies.enabled=false";
    let reviewing = "verifier.networkPolicy.ingress.apiServer.cidrs={10.0.0.0/28}";
    let extra = "verifier.networkPolicy.ingress.extra[0].from[0].ipBlock.cidr=192.0.2.0/24";
    let secure = "metrics.secure.enabled=true";
    for (sets, end, port, wanted) in [
        // By default every Pod may ask and scrape, and nothing else may.
        ("", proxy(), 8080, true),
        ("", stranger(), 8443, true),
        ("", stranger(), 8081, true),
        ("", End::Address(API_SERVER), 8443, false),
        ("", stranger(), 9999, false),
        // Metrics have a port of their own, where scrapers prove themselves.
        (secure, stranger(), 8444, true),
        (secure, stranger(), 8081, false),
        (named, proxy(), 8080, true),
        (named, proxy(), 8443, true),
        (named, stranger(), 8080, false),
        (named, stranger(), 8443, false),
        (named, stranger(), 8081, true),
        (by_policy, proxy(), 8443, true),
        (by_policy, stranger(), 8443, false),
        (no_scrapers, stranger(), 8081, false),
        (no_scrapers, proxy(), 8080, true),
        (no_proxies, proxy(), 8080, false),
        (no_proxies, proxy(), 8443, false),
        // The API server is no Pod. It asks by TokenReview, and passes on `kubectl tokenry check`.
        (reviewing, End::Address(API_SERVER), 8443, true),
        (reviewing, End::Address(API_SERVER), 8081, true),
        (reviewing, End::Address("10.0.1.1"), 8443, false),
        (extra, End::Address("192.0.2.7"), 8080, true),
        (extra, End::Address("192.0.3.7"), 8080, false),
        // A port that is not served has no rule.
        ("verifier.plainHttp=false,exposure.askByHttps=true", proxy(), 8443, true),
        ("verifier.tls.enabled=false", proxy(), 8080, true),
    ] {
        let chart = Chart::new(sets);
        assert_eq!(chart.admits("verifier", "Ingress", &end, port, "TCP"), wanted, "{sets} {port}");
    }
    let closed = Chart::new(&[no_scrapers, no_proxies].join(","));
    for (component, port) in [("verifier", 8081), ("operator", 8443), ("test", 8080), ("test", 8081)] {
        let told = format!("{component}, which is of the release, at {port}");
        assert!(closed.admits("verifier", "Ingress", &closed.pod(component), port, "TCP"), "{told}");
    }
    for component in ["operator", "verifier", "test"] {
        let other = End::Pod("shop", closed.labels(component));
        assert!(!closed.admits("verifier", "Ingress", &other, 8080, "TCP"), "labels alone open nothing");
    }
}

#[test]
fn the_operator_is_reached_by_scrapers_alone() {
    for (sets, end, port, wanted) in [
        ("", stranger(), 8081, true),
        ("", stranger(), 8080, false),
        ("metrics.secure.enabled=true", stranger(), 8444, true),
        ("metrics.secure.enabled=true", stranger(), 8081, false),
        ("", End::Address(API_SERVER), 8081, false),
        ("operator.networkPolicy.ingress.scrapers.enabled=false", stranger(), 8081, false),
        ("operator.networkPolicy.ingress.apiServer.cidrs={10.0.0.0/28}", End::Address(API_SERVER), 8081, true),
    ] {
        let chart = Chart::new(sets);
        assert_eq!(chart.admits("operator", "Ingress", &end, port, "TCP"), wanted, "{sets} {port}");
    }
}

#[test]
fn both_reach_what_they_need_and_each_rule_can_be_closed() {
    let (dns, anywhere, collector) = (stranger(), End::Address("203.0.113.7"), stranger());
    let off = |component: &str, rule: &str| format!("{component}.networkPolicy.egress.{rule}.enabled=false");
    for component in ["operator", "verifier"] {
        let on = |rule: &str| format!("{component}.networkPolicy.egress.{rule}.enabled=true");
        let out = |sets: &str, end: &End, port: u16, protocol: &str| {
            Chart::new(sets).admits(component, "Egress", end, port, protocol)
        };
        for protocol in ["UDP", "TCP"] {
            assert!(out("", &dns, 53, protocol));
            assert!(!out(&off(component, "dns"), &dns, 53, protocol));
        }
        let only = format!("{component}.networkPolicy.egress.dns.ports={{5353}}");
        assert_eq!((out(&only, &dns, 5353, "UDP"), out(&only, &dns, 53, "UDP")), (true, false));
        for port in [443, 6443] {
            assert!(out("", &anywhere, port, "TCP"), "the API server is no Pod");
        }
        let no_api = [off(component, "apiServer")];
        assert!(!out(&no_api[0], &anywhere, 6443, "TCP"));
        let to = format!("{component}.networkPolicy.egress.apiServer.to[0].ipBlock.cidr=10.0.0.0/28");
        assert_eq!((out(&to, &End::Address(API_SERVER), 6443, "TCP"), out(&to, &anywhere, 6443, "TCP")), (true, false));
        assert!(!out("", &collector, 4317, "TCP"));
        assert!(out(&on("otlp"), &collector, 4317, "TCP") && out(&on("otlp"), &collector, 4318, "TCP"));
        let chart = Chart::new("");
        for port in [8081, 8443] {
            assert!(chart.admits(component, "Egress", &chart.pod("verifier"), port, "TCP"));
        }
        assert!(!out("", &stranger(), 5432, "TCP"));
    }
    // Only the operator probes published endpoints. It reaches port 443 as that of the API server, too.
    let probes = |component: &str, sets: &str| Chart::new(sets).admits(component, "Egress", &anywhere, 80, "TCP");
    assert_eq!((probes("operator", ""), probes("verifier", "")), (true, false));
    assert!(!probes("operator", &off("operator", "endpoints")));
    assert!(!probes("operator", "operator.networkPolicy.egress.endpoints.ports={8443}"));
}

#[test]
fn each_sends_to_a_collector_where_a_value_names_one_and_nobody_closed_the_way() {
    let sends = |sets: &str| {
        let chart = Chart::new(sets);
        ["operator", "verifier"].map(|component| chart.admits(component, "Egress", &stranger(), 4317, "TCP"))
    };
    let traces = "traces.endpoint=http://collector:4317";
    let closed = "verifier.networkPolicy.egress.otlp.enabled=false";
    for (sets, wanted) in [
        ("", [false, false]),
        (traces, [true, true]),
        ("verifier.audit.to=otlp", [false, true]),
        ("verifier.extraEnv[0].name=OTEL_EXPORTER_OTLP_ENDPOINT", [false, true]),
        ("operator.extraEnv[0].name=OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", [true, false]),
        ("operator.extraEnv[0].name=OTEL_SERVICE_NAME", [false, false]),
        // Values of an older chart.
        (&format!("{traces},operator.networkPolicy.egress.otlp=null"), [true, true]),
        (&format!("{traces},{closed}"), [true, false]),
    ] {
        assert_eq!(sends(sets), wanted, "{sets}");
    }
}

#[test]
fn there_is_no_policy_unless_it_is_asked_for() {
    assert!(of_kind(&rendered(&[]), "NetworkPolicy").is_empty());
    let one = rendered(&["--set", "verifier.networkPolicy.enabled=true"]);
    assert_eq!(of_kind(&one, "NetworkPolicy").into_iter().map(name).collect::<Vec<_>>(), ["tokenry-verifier"]);
}
