//! Starts the caches and the controllers of the operator, and joins all tasks at shutdown.
#![allow(clippy::disallowed_types, reason = "a client comes in here and goes to the rooms outside")]

use std::{io, sync::Arc};

use futures::stream::BoxStream;
use k8s_openapi::NamespaceResourceScope;
use kube::{Client, Resource, runtime::reflector::ObjectRef};
use serde::Serialize;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio_util::sync::CancellationToken;

use crate::{
    controller::{
        Caches, Rooms, account,
        book::Book,
        certificate::{self, CertificateKeeper, HandOut},
        depends,
        exposing::Exposing,
        grants,
        https::Lookout,
        instance,
        kind::{is_news, is_news_of_meta},
        policy,
        run::{once_leading, run as control},
        token,
    },
    crd::{AccessPolicy, Account, ApiToken, GROUP, Instance, name, secret},
    exposure::{ExposureConfig, PieceKind, backends::Backends},
    outside::{
        Cache, Clock, Entropy, Extent, Hearing, Joint, Lead, Optional, Prober, Pulse, Reader, Rights, Taken, Tasks,
        Verb, Writer, counted,
        events::{Events, Scribe, Untold},
        lead::{Elector, LeaseOrder},
        metrics::Metrics,
        probes,
        reviewer::REVIEWING,
        rights::{Right, Wanted},
        scrapes::{self, SecureMetrics},
        server::{self, Port},
        traces::{TraceOptions, Tracer},
        watch::Object,
    },
};

pub use crate::controller::certificate::{CertificateOrder, SecretPlace};

/// The permissions that the operator uses: the rules of its roles in the chart. Without the useful ones it restarts no
/// workload, exposes no endpoint, deletes no forgotten token, and writes no event.
pub const RIGHTS: Wanted = Wanted {
    program: "operator",
    needed: &[
        Right::new(Verb::GET, GROUP, "instances"),
        Right::new(Verb::LIST, GROUP, "instances"),
        Right::new(Verb::WATCH, GROUP, "instances"),
        Right::new(Verb::GET, GROUP, "apitokens"),
        Right::new(Verb::LIST, GROUP, "apitokens"),
        Right::new(Verb::WATCH, GROUP, "apitokens"),
        Right::new(Verb::GET, GROUP, "serviceaccounts"),
        Right::new(Verb::LIST, GROUP, "serviceaccounts"),
        Right::new(Verb::WATCH, GROUP, "serviceaccounts"),
        Right::new(Verb::CREATE, GROUP, "serviceaccounts"),
        Right::new(Verb::PATCH, GROUP, "serviceaccounts"),
        Right::new(Verb::LIST, GROUP, "accesspolicies"),
        Right::new(Verb::WATCH, GROUP, "accesspolicies"),
        Right::new(Verb::UPDATE.status(), GROUP, "instances"),
        Right::new(Verb::UPDATE.status(), GROUP, "apitokens"),
        Right::new(Verb::UPDATE.status(), GROUP, "serviceaccounts"),
        Right::new(Verb::UPDATE.status(), GROUP, "accesspolicies"),
        Right::READ_VALUE,
        Right::new(Verb::LIST, "", "secrets"),
        Right::new(Verb::WATCH, "", "secrets"),
        Right::new(Verb::CREATE, "", "secrets"),
        Right::new(Verb::PATCH, "", "secrets"),
        Right::new(Verb::DELETE, "", "secrets"),
        Right::new(Verb::LIST, "", "serviceaccounts"),
        Right::new(Verb::WATCH, "", "serviceaccounts"),
        Right::new(Verb::LIST, "", "services"),
        Right::new(Verb::WATCH, "", "services"),
        Right::new(Verb::LIST, "", "namespaces"),
        Right::new(Verb::WATCH, "", "namespaces"),
    ],
    useful: &[
        Right::new(Verb::DELETE, GROUP, "apitokens"),
        Right::new(Verb::PATCH.status(), GROUP, "instances"),
        Right::new(Verb::PATCH.status(), GROUP, "apitokens"),
        Right::new(Verb::PATCH.status(), GROUP, "serviceaccounts"),
        Right::new(Verb::PATCH.status(), GROUP, "accesspolicies"),
        Right::new(Verb::GET, "", "serviceaccounts"),
        Right::new(Verb::CREATE, "", "services"),
        Right::new(Verb::PATCH, "", "services"),
        Right::new(Verb::DELETE, "", "services"),
        Right::new(Verb::GET, "apps", "deployments"),
        Right::new(Verb::PATCH, "apps", "deployments"),
        Right::new(Verb::GET, "apps", "statefulsets"),
        Right::new(Verb::PATCH, "apps", "statefulsets"),
        Right::new(Verb::GET, "apps", "daemonsets"),
        Right::new(Verb::PATCH, "apps", "daemonsets"),
        Right::new(Verb::CREATE, "events.k8s.io", "events"),
        Right::new(Verb::PATCH, "events.k8s.io", "events"),
    ],
};

/// The further permissions of an operator with grants. RBAC lets it grant only rights that it has itself.
pub const GRANTING: [Right; 14] = [
    Right::new(Verb::GET, RBAC, "roles"),
    Right::new(Verb::LIST, RBAC, "roles"),
    Right::new(Verb::WATCH, RBAC, "roles"),
    Right::new(Verb::CREATE, RBAC, "roles"),
    Right::new(Verb::PATCH, RBAC, "roles"),
    Right::new(Verb::DELETE, RBAC, "roles"),
    Right::new(Verb::GET, RBAC, "rolebindings"),
    Right::new(Verb::LIST, RBAC, "rolebindings"),
    Right::new(Verb::WATCH, RBAC, "rolebindings"),
    Right::new(Verb::CREATE, RBAC, "rolebindings"),
    Right::new(Verb::PATCH, RBAC, "rolebindings"),
    Right::new(Verb::DELETE, RBAC, "rolebindings"),
    Right::GIVE_ROLE,
    Right::USE_ACCOUNT,
];

/// The further permissions of an operator that keeps the verifier's certificate, or whose guards ask by HTTPS. It has
/// them in the namespace of the certificate alone, so they are not among those that are checked for the namespaces that
/// it serves.
pub const CERTIFYING: [Right; 4] = [
    Right::new(Verb::GET, "", "configmaps"),
    Right::new(Verb::CREATE, "", "configmaps"),
    Right::new(Verb::PATCH, "", "configmaps"),
    Right::new(Verb::GET, "gateway.networking.k8s.io", "backendtlspolicies"),
];

/// The further permissions of an operator that takes part in an election, beside those for events. It needs them for
/// its Lease alone. A standby needs all of them to be ready: else it could never lead.
pub const ELECTING: [Right; 3] = [
    Right::new(Verb::GET, LEASES, "leases"),
    Right::new(Verb::CREATE, LEASES, "leases"),
    Right::new(Verb::UPDATE, LEASES, "leases"),
];

/// The further permissions of an operator that creates objects of this kind. OpenShift asks for two more where a Route
/// has a host: at its creation, and at a change of the host.
pub fn exposing_rights(kind: PieceKind) -> Vec<Right> {
    let (group, resource) = kind.resource();
    let verbs = [Verb::LIST, Verb::WATCH, Verb::CREATE, Verb::PATCH, Verb::DELETE];
    let hosts = (kind == PieceKind::Route).then_some([Verb::CREATE, Verb::UPDATE]).into_iter().flatten();
    let hosts = hosts.map(|verb| Right::new(verb, group, "routes/custom-host"));
    // A guard of an Ingress depends on the controller of its class.
    let classes = (kind == PieceKind::Ingress).then_some(Right::new(Verb::LIST, group, "ingressclasses"));
    // A Gateway may not exist, and its class may not know the filter ExternalAuth.
    let carriers = (kind == PieceKind::HttpRoute).then_some(["gateways", "gatewayclasses"]).into_iter().flatten();
    let carriers = carriers.map(|resource| Right::new(Verb::GET, group, resource));
    let own = verbs.map(|verb| Right::new(verb, group, resource)).into_iter();
    own.chain(hosts).chain(classes).chain(carriers).collect()
}

/// The length of the random part of this process's name in an election.
const UNIQUE: usize = 10;
/// The API group of Leases.
const LEASES: &str = "coordination.k8s.io";
/// The API group of Roles and RoleBindings.
const RBAC: &str = "rbac.authorization.k8s.io";

/// The options of the operator.
#[derive(Debug, Default)]
pub struct Options {
    /// The namespaces that the operator works on. Default: all.
    pub scope: Extent,
    /// The address of `/healthz` and `/readyz`. `None`: they are not served at a main port.
    pub serving: Option<Taken>,
    /// The address of `/healthz`, `/readyz` and `/metrics`. `None`: they are not served at a probe port.
    pub probes: Option<Taken>,
    /// True: the operator keeps the Roles and RoleBindings that follow from Instances with `grants: Members`. Default:
    /// false.
    pub grants: bool,
    /// The settings of the cluster for exposing endpoints. Default: Services alone.
    pub exposure: Arc<ExposureConfig>,
    /// The certificate of the verifier that the operator keeps. `None`: it keeps none.
    pub certificate: Option<CertificateOrder>,
    /// The Lease by which one of several operators leads. `None`: this operator works, whatever others do.
    pub election: Option<LeaseOrder>,
    /// The port of `/metrics` for callers that prove themselves. `None`: the port of the probes serves `/metrics`.
    pub secure_metrics: Option<SecureMetrics>,
    /// The traces of passes. `None`: there are none.
    pub traces: Option<TraceOptions>,
    /// True: there are metrics for each token. Default: false.
    pub per_token: bool,
    /// True: probes may ask loopback and link-local addresses. Default: false.
    pub probe_local: bool,
    /// The name of this process in events: the name of its Pod.
    pub instance: Option<String>,
    /// When this token is cancelled, the operator finishes the passes in progress and returns.
    pub stop: CancellationToken,
}

/// Runs the operator until `options.stop` is cancelled. The command `tokenry operator` calls this function.
///
/// The operator waits for everything that is still missing: the API server, the CRDs, the permissions. Then it waits
/// until it leads, if there is an election. At its end it finishes its passes, writes their events, and releases the
/// Lease, in this order.
///
/// # Errors
/// A task ended unexpectedly, or the Lease was lost. The process has to end then. An operator with a dead task looks
/// healthy and does nothing, and another operator leads after a loss.
pub async fn run(client: Client, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, options: Options) -> io::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let client = counted(&client, &metrics);
    let (hearing, mut tasks) = (Hearing::default(), Tasks::new(options.stop.clone()));
    let pulse = tasks.pulse();
    let elector = elector(&client, (&clock, &*entropy), &options, &metrics)?;
    let lead = elector.as_ref().map(Elector::lead).unwrap_or_default();
    let facts = (metrics.clone(), pulse.clone(), lead.clone());
    let (mut rooms, scribe) = rooms(&client, (clock, entropy), &options, facts, &hearing);
    observe(&mut rooms, options.per_token, options.traces, &mut tasks);
    let (caches, stamping, rights) = (rooms.caches.clone(), rooms.stamping.clone(), rooms.rights.clone());
    let (rooms, stop) = (Arc::new(rooms), options.stop);
    let waits_for = caches.missing().err().unwrap_or_default().replace("waiting for ", "");
    tasks.endless("the check of permissions", rights.clone().ask(client.clone(), waits_for));
    let (read, asked) = (caches.clone(), rights.clone());
    tasks.endless("the log line about the first read", async move {
        asked.started().await;
        read.say_synced().await;
        std::future::pending().await
    });
    tasks
        .endless("the check of the API server", hearing.clone().ask::<ApiToken>(client.clone(), options.scope.clone()));
    let triggers = Triggers::of(&rooms);
    let prober = rooms.prober.clone();
    tasks.endless("the prober", async move { prober.run().await });
    if rooms.grants {
        tasks.finishing("the sweep of grants", grants::sweep(rooms.clone(), stop.clone()));
    }
    let handed = options.certificate.and_then(|order| keep_certificate(&rooms, order, &mut tasks, stop.clone()));
    look_out(&rooms, &mut tasks);
    feed(&caches, &mut tasks);
    ask_for_stamps(&rooms, options.scope.home(&client), &mut tasks);
    start_controllers(&rooms, triggers, handed, &mut tasks, &stop);
    let told = stop.clone();
    tasks.finishing("the scribe of events", async move {
        scribe.run(told).await;
        Ok(())
    });
    if let Some(elector) = elector {
        let (read, stop) = (caches.clone(), stop.clone());
        let elector = elector.telling(rooms.events.clone()).able(move || read.missing().is_ok());
        tasks.last("the leader election", |last| elector.run(stop, last));
    }
    let works = move || rights.missing().and_then(|()| caches.missing()).and_then(|()| stamping.missing());
    let ready = move || works().and_then(|()| lead.missing());
    if let Some(serving) = options.serving {
        let router = probes::health(ready.clone(), pulse.clone());
        tasks.finishing("the server", server::serve(serving.listen("listening")?, router, Port::Probes, stop.clone()));
    }
    let scrapes = scrapes::open(options.secure_metrics, (metrics, hearing), &client, &mut tasks, &stop)?;
    if let Some(at) = options.probes {
        let router = probes::probes(ready, pulse).merge(scrapes);
        tasks.finishing("the probes", async move { server::serve_probes(at, router, &stop).await });
    }
    // From here on only the controllers can publish events. The scribe ends after the last controller.
    drop(rooms);
    tasks.join().await
}

/// The names of objects that need a pass, by kind.
struct Triggers {
    tokens: BoxStream<'static, ObjectRef<ApiToken>>,
    instances: BoxStream<'static, ObjectRef<Instance>>,
    accounts: BoxStream<'static, ObjectRef<Account>>,
    policies: BoxStream<'static, ObjectRef<AccessPolicy>>,
}

impl Triggers {
    /// The triggers of all kinds, from the moment this operator leads. Call this before the caches are filled.
    fn of(rooms: &Arc<Rooms>) -> Self {
        let (lead, caches) = (|| rooms.lead.clone(), &rooms.caches);
        Self {
            tokens: once_leading(lead(), token::triggers(rooms), caches.tokens.store()),
            instances: once_leading(lead(), instance::triggers(rooms), caches.instances.store()),
            accounts: once_leading(lead(), account::triggers(rooms), caches.accounts.store()),
            policies: once_leading(lead(), policy::triggers(rooms), caches.policies.store()),
        }
    }
}

/// Starts the controllers. With `handed`, Instances wait for the certificates that Traefik trusts.
fn start_controllers(
    rooms: &Arc<Rooms>,
    triggers: Triggers,
    handed: Option<UnboundedReceiver<HandOut>>,
    tasks: &mut Tasks,
    stop: &CancellationToken,
) {
    let (caches, stop) = (&rooms.caches, || stop.clone());
    let Triggers { tokens, instances, accounts, policies } = triggers;
    let instances = match handed {
        Some(results) => certificate::in_turn(instances, results, caches.clone()),
        None => instances,
    };
    tasks.finishing("the token controller", control(rooms.clone(), caches.tokens.store(), tokens, stop()));
    tasks.finishing("the instance controller", control(rooms.clone(), caches.instances.store(), instances, stop()));
    tasks.finishing("the account controller", control(rooms.clone(), caches.accounts.store(), accounts, stop()));
    tasks.finishing("the policy controller", control(rooms.clone(), caches.policies.store(), policies, stop()));
}

/// The elector of an operator with these options, if it takes part in an election. Its name has a random part, because
/// a Pod that starts again keeps its own name.
fn elector(
    client: &Client,
    (clock, entropy): (&Arc<dyn Clock>, &dyn Entropy),
    options: &Options,
    metrics: &Arc<Metrics>,
) -> io::Result<Option<Elector>> {
    let Some(order) = options.election.clone() else { return Ok(None) };
    let start = entropy.base62(UNIQUE).map_err(io::Error::other)?;
    let me = format!("{}_{}", options.instance.as_deref().unwrap_or(name::MANAGER), &*start);
    Ok(Some(Elector::new(client.clone(), order, me, (clock.clone(), metrics.clone()))))
}

/// Has metrics for each token of the cache, if there are any. Only the operator that leads has them:
/// with those of a standby, each token would have its series twice. Starts the traces of passes, if there are any. They
/// end after the last pass, which drops the last tracer.
fn observe(rooms: &mut Rooms, per_token: bool, traces: Option<TraceOptions>, tasks: &mut Tasks) {
    if per_token {
        let (lead, tokens) = (rooms.lead.clone(), rooms.caches.tokens.store());
        rooms.metrics.tokens(move || if lead.holds() { tokens.all_gists() } else { Vec::new() });
    }
    if let Some(traces) = traces {
        let (tracer, closing) = traces.open(tasks, rooms.metrics.clone());
        closing.disarm();
        rooms.tracer = tracer;
    }
}

/// Starts the lookout for guards that can ask by HTTPS, if there is one. It works once this operator leads.
fn look_out(rooms: &Arc<Rooms>, tasks: &mut Tasks) {
    let (Some(lookout), lead) = (Lookout::of(rooms), rooms.lead.clone()) else { return };
    tasks.endless("the lookout for guards by HTTPS", async move {
        lead.begun().await;
        lookout.keep().await
    });
}

/// Starts the task that keeps the verifier's certificate. The receiver gets each namespace in which Traefik has the
/// certificates that it trusts, or cannot have them. `None` if Traefik needs none.
fn keep_certificate(
    rooms: &Arc<Rooms>,
    order: CertificateOrder,
    tasks: &mut Tasks,
    stop: CancellationToken,
) -> Option<UnboundedReceiver<HandOut>> {
    let https = rooms.exposure.verifier.as_ref().and_then(|verifier| verifier.https.as_ref());
    let ca_secret = https.map(|https| https.ca_secret.clone());
    let (results, receiver) = mpsc::unbounded_channel();
    let receiver = ca_secret.is_some().then_some(receiver);
    let (keeper, lead) = (CertificateKeeper { order, ca_secret, results, rooms: rooms.clone() }, rooms.lead.clone());
    tasks.finishing("the keeper of the verifier's certificate", async move {
        let kept = async {
            lead.begun().await;
            keeper.keep().await
        };
        stop.run_until_cancelled(kept).await;
        Ok(())
    });
    receiver
}

/// Starts the task that checks in `namespace` if tokens can be created, and if they are stamped. The task publishes no
/// events, so it does not keep the scribe from ending.
fn ask_for_stamps(rooms: &Rooms, namespace: String, tasks: &mut Tasks) {
    let (stamping, caches) = (rooms.stamping.clone(), rooms.caches.clone());
    let (writer, metrics) = (rooms.writer.clone(), rooms.metrics.clone());
    tasks.endless("the check for stamps", async move {
        stamping.watched(&caches, &writer, &metrics, &namespace).await;
    });
}

/// The resources of all passes, connected through `client`, and the scribe that writes their events.
fn rooms(
    client: &Client,
    (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
    options: &Options,
    (metrics, pulse, lead): (Arc<Metrics>, Pulse, Lead),
    hearing: &Hearing,
) -> (Rooms, Scribe) {
    let scope = &options.scope;
    let caches = Caches {
        instances: Cache::new(scope.watch(client, hearing), depends::of_instance).telling(is_news),
        accounts: Cache::new(scope.watch(client, hearing), depends::of_account).packing().telling(is_news),
        policies: Cache::new(scope.watch(client, hearing), depends::of_policy).telling(is_news),
        users: Cache::by_name(scope.watch(client, hearing)).telling(is_news_of_meta),
        tokens: Cache::new(scope.watch(client, hearing), depends::of_token).packing().telling(is_news),
        secrets: Cache::by_name(scope.watch_type(client, secret::TYPE, hearing)).packing(),
        services: Cache::new(scope.watch(client, hearing), depends::of_service),
        exposing: exposing(options, client, hearing),
        namespaces: Cache::by_name(scope.watch_namespaces(client, hearing)).telling(is_news_of_meta),
        roles: granted(options, client, hearing),
        bindings: granted(options, client, hearing),
    };
    let (events, scribe) = Events::new(client.clone(), options.instance.clone(), metrics.clone());
    let reader = Reader::new(client.clone());
    let rooms = Rooms {
        caches: Arc::new(caches),
        accounts: Arc::new(Joint::new(reader.clone())),
        instances: Arc::new(Joint::new(reader.clone())),
        reader,
        writer: Writer::new(client.clone(), clock.clone(), metrics.clone()).led_by(lead.clone()),
        lead,
        mints: token::Mints::default(),
        stamping: Arc::default(),
        by_https: Arc::default(),
        rights: asking(options, client),
        pulse,
        untold: Untold::default(),
        rules: Book::default(),
        policies: Book::default(),
        events,
        prober: Arc::new(Prober::new(clock.clone(), options.probe_local)),
        clock,
        entropy,
        metrics,
        tracer: Tracer::default(),
        grants: options.grants,
        exposure: options.exposure.clone(),
    };
    (rooms, scribe)
}

/// The check of the permissions that an operator with these options uses. Without those for the kinds that expose
/// endpoints, it works, and the Instances that need them have a fault.
fn asking(options: &Options, client: &Client) -> Rights {
    let exposed = options.exposure.kinds.iter().filter(|kind| **kind != PieceKind::Service);
    let granting: &[Right] = if options.grants { &GRANTING } else { &[] };
    let reviewing = REVIEWING.into_iter().filter(|_| options.secure_metrics.is_some());
    let useful = exposed.flat_map(|kind| exposing_rights(*kind)).chain(reviewing);
    let rights = Rights::new(RIGHTS, &options.scope).needing(granting).using(useful);
    match &options.election {
        Some(order) => rights.needing_on(order.location(client), &ELECTING),
        None => rights,
    }
}

/// The cache of Roles or RoleBindings with our label. Without grants the operator has no permission to watch them.
fn granted<K>(options: &Options, client: &Client, hearing: &Hearing) -> Cache<K>
where
    K: Object + Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + PartialEq,
{
    if !options.grants {
        return Cache::unwatched();
    }
    let ours = options.scope.watch_label(client, (name::MANAGED_BY, name::MANAGER), hearing);
    Cache::new(ours, depends::of_granted).packing()
}

/// The caches of the objects that expose endpoints. A kind that is switched off is not watched.
fn exposing(options: &Options, client: &Client, hearing: &Hearing) -> Exposing {
    fn optional<K>(kind: PieceKind, options: &Options, client: &Client, hearing: &Hearing) -> Optional<K>
    where
        K: Object + Backends + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Optional::new(&options.scope, client, hearing, depends::of_exposing)
            .switched(options.exposure.kinds.contains(&kind))
    }
    Exposing {
        network_policies: optional(PieceKind::NetworkPolicy, options, client, hearing),
        middlewares: optional(PieceKind::Middleware, options, client, hearing),
        security_policies: optional(PieceKind::SecurityPolicy, options, client, hearing),
        authorization_policies: optional(PieceKind::AuthorizationPolicy, options, client, hearing),
        http_routes: optional(PieceKind::HttpRoute, options, client, hearing),
        ingresses: optional(PieceKind::Ingress, options, client, hearing),
        routes: optional(PieceKind::Route, options, client, hearing),
    }
}

/// Fills each cache in a separate task, so that a slow cache does not delay the others.
fn feed(caches: &Arc<Caches>, tasks: &mut Tasks) {
    macro_rules! feed {
        ($($cache:ident),*) => {
            // One that is not named does not compile.
            let Caches { $($cache: _),* } = &**caches;
            $({
                let caches = caches.clone();
                tasks.endless(concat!("the watch of ", stringify!($cache)), async move { caches.$cache.run().await });
            })*
        };
    }
    feed!(instances, accounts, policies, users, tokens, secrets, services, exposing, namespaces, roles, bindings);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        controller::kind::Kind,
        outside::{SystemClock, entropy::Seeded},
    };
    use futures::{Stream, StreamExt};
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use std::{convert::Infallible, time::Duration};
    use tokio::time::timeout;

    /// A server with one Instance, one policy for the Instance, and `count` tokens. Each token has an owner, an account
    /// and a Secret.
    fn server(count: usize) -> Client {
        let serve = move |request: Request<Body>| async move {
            let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
            if query.contains("watch=true") {
                std::future::pending::<()>().await;
            }
            let kind = path.rsplit('/').next().unwrap_or_default();
            // A single object is requested only if a cache is not enough. The answer is that it does not exist.
            let answer = match path.contains("/namespaces/") {
                true => (404, json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404})),
                false => (
                    200,
                    json!({"metadata": {"resourceVersion": "7"}, "items": items(kind, count), "groupVersion": "", "resources": []}),
                ),
            };
            let body = Body::from(answer.1.to_string().into_bytes());
            let answer = Response::builder().status(answer.0).body(body);
            Ok::<_, Infallible>(answer.unwrap())
        };
        Client::new(tower::service_fn(serve), "a")
    }

    fn items(kind: &str, count: usize) -> Vec<Value> {
        let object = |kind: &str, name: &str, mut rest: Value| {
            rest["apiVersion"] = "tokenry.dev/v1alpha1".into();
            rest["kind"] = kind.into();
            let uid = format!("{kind}-{name}");
            rest["metadata"] =
                json!({"namespace": "a", "name": name, "uid": uid, "generation": 1, "resourceVersion": "1"});
            rest
        };
        let refers = json!({"instanceRef": {"name": "eem"}});
        let names = (0..count).map(|nth| nth.to_string());
        match kind {
            "instances" => vec![object("Instance", "eem", json!({"spec": {"tokens": {"maxPerOwner": 3}}}))],
            "accesspolicies" => {
                let (members, statements) =
                    (["user:0", "user:none", "token:a/7"], [json!({"effect": "Deny", "role": "viewer"})]);
                let spec = json!({"instanceRef": {"name": "eem"}, "members": members, "statements": statements});
                vec![object("AccessPolicy", "p", json!({ "spec": spec }))]
            }
            "serviceaccounts" => names.map(|name| object("ServiceAccount", &name, json!({ "spec": refers }))).collect(),
            "apitokens" => names
                .map(|name| {
                    // Every second token has ended, and all of these have one owner.
                    let revoked = name.ends_with(['1', '3', '5', '7', '9']);
                    let subject = if revoked { "user:many".to_owned() } else { format!("user:{name}") };
                    let owner = json!({ "subject": subject });
                    let account = json!({"name": name, "uid": format!("ServiceAccount-{name}")});
                    let spec = json!({"instanceRef": {"name": "eem"}, "owner": subject, "revoked": revoked});
                    object("ApiToken", &name, json!({"spec": spec, "status": {"owner": owner, "account": account}}))
                })
                .collect(),
            "secrets" => names.map(|name| object("Secret", &name, json!({"type": secret::TYPE}))).collect(),
            _ => Vec::new(),
        }
    }

    /// The number of objects that look-ups compare after a cold start: for the triggers and the reads of one pass per
    /// object.
    async fn looked_at(count: usize) -> usize {
        let (client, hearing, options) = (server(count), Hearing::default(), Options::default());
        let (rooms, _scribe) =
            rooms(&client, (Arc::new(SystemClock), Arc::new(Seeded::new(7))), &options, Default::default(), &hearing);
        let rooms = Arc::new(rooms);
        let (tokens, instances) = (token::triggers(&rooms), instance::triggers(&rooms));
        let (accounts, policies) = (account::triggers(&rooms), policy::triggers(&rooms));
        let mut tasks = Tasks::new(CancellationToken::new());
        feed(&rooms.caches, &mut tasks);
        timeout(Duration::from_secs(60), rooms.caches.synced()).await.unwrap();
        let named = [named(tokens).await, named(instances).await, named(accounts).await, named(policies).await];
        assert!(named.iter().all(|named| *named > 0) && named[0] >= 3 * count, "{named:?}");
        let caches = &rooms.caches;
        for name in caches.tokens.all_names() {
            let token = caches.tokens.get("a", &name.name).unwrap();
            token.observe(&rooms, rooms.clock.now()).await.unwrap();
        }
        for name in caches.accounts.all_names() {
            let account = caches.accounts.get("a", &name.name).unwrap();
            account.observe(&rooms, rooms.clock.now()).await.unwrap();
        }
        let policy: Arc<AccessPolicy> = caches.policies.get("a", "p").unwrap();
        policy.observe(&rooms, rooms.clock.now()).await.unwrap();
        let instance: Arc<crate::crd::Instance> = caches.instances.get("a", "eem").unwrap();
        Kind::observe(instance, &rooms, rooms.clock.now()).await.unwrap();
        let Caches {
            instances,
            accounts,
            policies,
            users,
            tokens,
            secrets,
            services,
            exposing: _,
            namespaces,
            roles: _,
            bindings: _,
        } = &**caches;
        let ours = [instances.looked_at(), accounts.looked_at(), policies.looked_at(), tokens.looked_at()];
        let others = [users.looked_at(), secrets.looked_at(), services.looked_at(), namespaces.looked_at()];
        ours.into_iter().chain(others).sum()
    }

    /// The number of names until none comes for three seconds.
    async fn named<T>(mut names: impl Stream<Item = T> + Unpin) -> usize {
        let mut count = 0;
        while let Ok(Some(_)) = timeout(Duration::from_secs(3), names.next()).await {
            count += 1;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn a_cold_start_looks_at_so_many_objects_for_each_token_however_many_there_are() {
        let (few, many) = (looked_at(100).await, looked_at(1_000).await);
        println!("objects looked at for each token: {} of 100, {} of 1,000", few as f64 / 100.0, many as f64 / 1_000.0);
        assert!(many <= 10 * few + few / 10, "{few} for 100, {many} for 1,000");
    }
}
