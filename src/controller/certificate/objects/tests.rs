//! The life of the objects, without an API server.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use super::*;
use crate::outside::SystemEntropy;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

fn days(count: i32) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + DAY * count
}

fn names() -> Vec<String> {
    vec!["v.ns.svc".to_owned()]
}

/// Metadata of an object whose label was written by this field manager.
fn metadata(name: &str, manager: &str) -> Value {
    let fields = json!({"f:metadata": {"f:labels": {"f:app.kubernetes.io/managed-by": {}}}});
    json!({
        "name": name, "labels": {"app.kubernetes.io/managed-by": "tokenry"},
        "managedFields": [{"manager": manager, "fieldsV1": fields}],
    })
}

/// The three objects of a cluster, as their data.
#[derive(Clone, Default)]
struct Site {
    authorities: Map<String, Value>,
    bundle: Option<String>,
    certificate: Map<String, Value>,
}

fn secret(name: &str, type_: &str, data: &Map<String, Value>, manager: &str) -> Option<KeySecret> {
    let secret = json!({"metadata": metadata(name, manager), "type": type_, "data": data});
    (!data.is_empty()).then(|| serde_json::from_value(secret).unwrap())
}

fn set(data: &mut Map<String, Value>, keys: BTreeMap<&'static str, Option<Zeroizing<String>>>) {
    for (key, value) in keys {
        match value {
            Some(value) => _ = data.insert(key.to_owned(), STANDARD.encode(&*value).into()),
            None => _ = data.remove(key),
        }
    }
}

impl Site {
    fn objects(&self, managers: [&str; 3]) -> Objects {
        let map = |bundle: &String| {
            let map = json!({"metadata": metadata("t-ca", managers[1]), "data": {CA: bundle}});
            serde_json::from_value(map).unwrap()
        };
        Objects {
            authorities: secret("t-ca", AUTHORITIES, &self.authorities, managers[0]),
            bundle: self.bundle.as_ref().map(map),
            certificate: secret("t", "kubernetes.io/tls", &self.certificate, managers[2]),
        }
    }

    fn planned(&self, now: Timestamp) -> NextState {
        self.objects(["tokenry"; 3]).plan(&names(), &SystemEntropy, now).unwrap()
    }

    /// One pass, as the keeper does it.
    fn pass(&mut self, now: Timestamp) -> NextState {
        let plan = self.planned(now);
        if plan.writes_authorities() {
            set(&mut self.authorities, plan.authorities.keys());
        }
        self.bundle = Some(plan.bundle.clone());
        match plan.renewal {
            Renewal::Sign { .. } => set(&mut self.certificate, plan.signed(&names(), &SystemEntropy, now).unwrap()),
            Renewal::Keep => set(&mut self.certificate, BTreeMap::from([(CA, Some(plan.bundle.clone().into()))])),
            Renewal::Wait => {}
        }
        plan
    }

    /// A site after its first pass.
    fn new(now: Timestamp) -> Self {
        let mut site = Self::default();
        assert!(site.pass(now).is_new);
        site
    }

    fn bundle(&self) -> String {
        self.bundle.clone().unwrap()
    }

    /// True if a client that read this bundle accepts the certificate.
    fn serves(&self, bundle: &str, now: Timestamp) -> bool {
        self.objects(["tokenry"; 3]).pair().unwrap().serves(bundle, &names(), now)
    }
}

fn count(bundle: &str) -> usize {
    bundle.matches("BEGIN CERTIFICATE").count()
}

#[test]
fn a_client_that_read_the_bundle_a_year_ago_accepts_the_certificate_through_twenty_years() {
    let mut site = Site::new(days(0));
    let mut read = Vec::new();
    for day in (0..20 * 365).step_by(5) {
        let plan = site.pass(days(day));
        assert!(!plan.is_new);
        read.push(site.bundle());
        let a_year_ago = &read[read.len().saturating_sub(74)];
        assert!(site.serves(a_year_ago, days(day)), "day {day}");
        assert!(count(&plan.bundle) <= 2);
    }
    assert!(!site.serves(&read[0], days(20 * 365 - 1)));
}

#[test]
fn a_client_with_the_bundle_of_lost_keys_accepts_the_certificate_until_its_last_week() {
    for day in [0, 30, 59] {
        for unreadable in [false, true] {
            let mut site = Site::new(days(0));
            let before = site.bundle();
            site.authorities.clear();
            if unreadable {
                site.authorities.insert("tls.crt".to_owned(), "YQ==".into());
            }
            let plan = site.pass(days(day));
            assert!(plan.is_new && plan.renewal == Renewal::Keep && site.bundle().ends_with(&before));
            let after = site.bundle();
            assert_eq!(count(&after), 2);
            let mut last = day;
            while site.serves(&before, days(last)) {
                assert!(site.serves(&after, days(last)), "day {last}");
                last += 1;
                site.pass(days(last));
            }
            assert!((60..=83).contains(&last) && last >= day + 24, "lost on day {day}, and not trusted on day {last}");
            assert!(site.serves(&after, days(last)), "who read the new bundle trusts on");
        }
    }
}

#[test]
fn keys_that_are_lost_twice_leave_the_certificate_in_use_and_a_lost_config_map_is_no_loss() {
    let mut site = Site::new(days(0));
    let before = site.bundle();
    for _ in 0..2 {
        site.authorities.clear();
        site.bundle = None;
        site.pass(days(1));
        assert!(site.serves(&before, days(1)) && site.serves(&site.bundle(), days(1)));
        assert_eq!(count(&site.bundle()), 2);
    }
    site.bundle = None;
    let plan = site.pass(days(2));
    assert!(!plan.is_new && plan.renewal == Renewal::Keep);
    // Without any of the objects, the operator begins anew: so a key that leaked is trusted no more.
    let mut site = Site { authorities: Map::new(), bundle: None, certificate: Map::new() };
    site.pass(days(2));
    assert_eq!(count(&site.bundle()), 1);
}

#[test]
fn a_certificate_that_somebody_put_into_the_config_map_is_not_trusted_on() {
    let mut site = Site::new(days(0));
    let foreign = Site::new(days(0)).bundle();
    let own = site.bundle();
    site.bundle = Some(foreign.clone() + &own);
    site.authorities.clear();
    site.pass(days(1));
    assert!(site.bundle().contains(&own) && !site.bundle().contains(&foreign));
}

#[test]
fn after_years_without_an_operator_the_successor_is_published_for_an_hour_before_it_signs() {
    let mut site = Site::new(days(0));
    let first = site.bundle();
    // The first still signs in its last half year.
    let now = days(5 * 365 - 100);
    let plan = site.pass(now);
    assert_eq!((plan.changes, plan.renewal), (vec![Succession::Prepare], Renewal::Sign { is_unfit: true }));
    assert!(site.serves(&first, now) && count(&site.bundle()) == 2);
    let both = site.bundle();
    assert_eq!(site.pass(now + HOUR).changes, [Succession::Promote]);
    assert!(site.serves(&first, now + HOUR), "the certificate stays until it is due");
    assert_eq!(count(&site.bundle()), 2);
    let mut day = 0;
    while site.serves(&first, now + DAY * day) {
        day += 1;
        site.pass(now + DAY * day);
        assert!(site.serves(&both, now + DAY * day), "day {day}");
    }
    assert!((50..=70).contains(&day), "{day}");
}

#[test]
fn an_authority_that_has_ended_signs_nothing_and_its_successor_signs_after_an_hour() {
    let mut site = Site::new(days(0));
    let now = days(9 * 365);
    let plan = site.pass(now);
    assert_eq!((plan.changes, plan.renewal), (vec![Succession::Prepare], Renewal::Wait));
    let both = site.bundle();
    assert_eq!(site.pass(now + HOUR - SignedDuration::from_secs(1)).renewal, Renewal::Wait);
    let plan = site.pass(now + HOUR);
    assert_eq!(plan.changes, [Succession::Promote, Succession::Forget]);
    assert!(site.serves(&both, now + HOUR) && count(&site.bundle()) == 1);
}

#[test]
fn a_clock_that_is_wrong_for_a_moment_changes_no_authority_that_signs() {
    let mut site = Site::new(days(100));
    let first = site.bundle();
    let served = site.clone();
    // Years ahead or back, and right again.
    for wrong in [days(0), days(100) - DAY * 3650, days(100) + DAY * 3650] {
        let plan = site.pass(wrong);
        assert_eq!(plan.renewal, Renewal::Wait);
        assert!(plan.bundle.starts_with(&first));
        site.pass(days(101));
        assert_eq!(site.certificate.get("tls.crt"), served.certificate.get("tls.crt"));
        assert!(site.serves(&first, days(101)));
    }
}

#[test]
fn a_clock_that_went_back_for_good_gets_an_authority_that_is_valid() {
    let mut site = Site::new(days(1000));
    let mut now = days(0);
    assert_eq!(site.pass(now).renewal, Renewal::Wait);
    let both = site.bundle();
    now += HOUR;
    let plan = site.pass(now);
    assert_eq!((plan.changes, plan.renewal), (vec![Succession::Promote], Renewal::Sign { is_unfit: true }));
    assert!(site.serves(&both, now));
    let signed = site.certificate.clone();
    assert_eq!(site.pass(now + HOUR).renewal, Renewal::Keep, "it is not signed again in each pass");
    assert_eq!(site.certificate, signed);
}

#[test]
fn an_object_with_a_copied_label_is_neither_trusted_nor_overwritten() {
    let (ours, other) = (Site::new(days(0)), Site::new(days(0)));
    let refused = |site: &Site, managers: [&str; 3]| {
        let planned = site.objects(managers).plan(&names(), &SystemEntropy, days(1));
        planned.err().map(|why| why.to_string().split(" exists").next().unwrap().to_owned())
    };
    let kubectl = "kubectl-create";
    let mut unreadable = ours.clone();
    unreadable.authorities.insert("tls.key".to_owned(), "YQ==".into());
    assert_eq!(refused(&unreadable, [kubectl, "tokenry", "tokenry"]).as_deref(), Some("Secret t-ca"));
    let of_map = Site { bundle: other.bundle.clone(), ..ours.clone() };
    assert_eq!(refused(&of_map, ["tokenry", kubectl, "tokenry"]).as_deref(), Some("ConfigMap t-ca"));
    let of_certificate = Site { certificate: other.certificate.clone(), ..ours.clone() };
    assert_eq!(refused(&of_certificate, ["tokenry", "tokenry", kubectl]).as_deref(), Some("Secret t"));
    for altered in [&unreadable, &of_map, &of_certificate] {
        assert_eq!(refused(altered, ["tokenry"; 3]), None, "our own objects are repaired");
    }
    assert_eq!(refused(&ours, ["velero-server"; 3]), None, "our own objects, restored from a backup");
    let mut opaque = ours.objects([kubectl; 3]);
    opaque.authorities.as_mut().unwrap().type_ = Some("Opaque".to_owned());
    assert!(opaque.plan(&names(), &SystemEntropy, days(1)).is_err());
}

#[test]
fn a_certificate_that_was_altered_is_signed_again() {
    let site = Site::new(days(0));
    let other = Site::new(days(0));
    for (key, value) in
        [("tls.crt", json!("YQ==")), ("tls.key", json!("")), ("tls.key", other.certificate["tls.key"].clone())]
    {
        let mut altered = site.clone();
        altered.certificate.insert(key.to_owned(), value);
        assert_eq!(altered.planned(days(1)).renewal, Renewal::Sign { is_unfit: true });
    }
    let renamed = site.objects(["tokenry"; 3]).plan(&["w".to_owned()], &SystemEntropy, days(1)).unwrap();
    assert_eq!(renamed.renewal, Renewal::Sign { is_unfit: true });
}
