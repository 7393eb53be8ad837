//! Takes, renews and releases the Lease.

use std::{io, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::ObjectReference},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, Resource, api::PostParams, core::TypeMeta};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Lead, LeasePeriods,
    election::{Election, LeaseFields, LeaseStep},
};
use crate::{
    crd::{EventName, Reason, name},
    outside::{
        Clock, Location, Why,
        events::{self, Events, Note},
        metrics::Metrics,
    },
};

/// The number of tries to release the Lease. Another program may change it at the same moment.
const RELEASES: usize = 3;

/// The Lease of an election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOrder {
    /// Its namespace. `None`: that of the client.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The times of the election.
    pub periods: LeasePeriods,
}

impl Default for LeaseOrder {
    fn default() -> Self {
        Self { namespace: None, name: "tokenry-operator".to_owned(), periods: LeasePeriods::default() }
    }
}

impl LeaseOrder {
    /// The location of the Lease, as this client sees it.
    pub fn location<'a>(&'a self, client: &'a Client) -> Location<'a> {
        Location { namespace: self.namespace.as_deref().unwrap_or(client.default_namespace()), name: &self.name }
    }
}

/// A Lease whose spec is read whatever it holds.
#[derive(Clone, Debug, Deserialize, Serialize, Resource)]
#[resource(inherit = "Lease")]
struct LooseLease {
    #[serde(flatten)]
    types: Option<TypeMeta>,
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Option<LeaseFields>,
}

impl LooseLease {
    fn fields(&self) -> LeaseFields {
        let mut fields = self.spec.clone().unwrap_or_default();
        fields.uid.clone_from(&self.metadata.uid);
        fields
    }
}

/// Takes, renews and releases the Lease of this process.
pub struct Elector {
    api: Api<LooseLease>,
    /// The Lease in words, `NAMESPACE/NAME`.
    place: String,
    order: LeaseOrder,
    me: String,
    election: Election,
    /// The Lease as the API server answered last. `None`: it has to be read.
    known: Option<LooseLease>,
    lead: Lead,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// The Lease, for events about it.
    about: ObjectReference,
    /// `None` once the process stops: the scribe ends after the last of these.
    events: Option<Events>,
    /// The leader or the failure that was logged last.
    said: Option<String>,
    /// True once this process can work. Until then it leaves the Lease to others.
    able: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Elector {
    /// An elector with the name `me`, which no other process may ever have. It publishes its events by `events`.
    pub fn new(
        client: Client,
        order: LeaseOrder,
        me: String,
        (clock, metrics): (Arc<dyn Clock>, Arc<Metrics>),
    ) -> Self {
        let Location { namespace, name } = order.location(&client);
        let (place, namespace) = (format!("{namespace}/{name}"), namespace.to_owned());
        let election = Election::new(me.clone(), order.periods);
        let api = Api::namespaced(client, &namespace);
        metrics.leads(&order.name, false);
        Self {
            api,
            place,
            order,
            me,
            election,
            known: None,
            lead: Lead::elected(),
            clock,
            metrics,
            about: ObjectReference::default(),
            events: None,
            said: None,
            able: Box::new(|| true),
        }
    }

    /// The same elector, which takes no Lease before `able` says that this process can work.
    pub fn able(self, able: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { able: Box::new(able), ..self }
    }

    /// The right that this elector gives.
    pub fn lead(&self) -> Lead {
        self.lead.clone()
    }

    /// The same elector, which publishes events about its Lease.
    pub fn telling(self, events: Events) -> Self {
        Self { events: Some(events), ..self }
    }

    /// Takes part in the election. After `stop`, it takes no Lease any more, and keeps the one that it has. Once `last`
    /// is cancelled, it releases the Lease and returns.
    ///
    /// # Errors
    /// The Lease was lost. Then the process has to end.
    pub async fn run(mut self, stop: CancellationToken, last: CancellationToken) -> io::Result<()> {
        while !last.is_cancelled() {
            let deadline = self.election.until();
            let expires = sleep_until(deadline.unwrap_or_else(Instant::now));
            let next = tokio::select! {
                biased;
                () = expires, if deadline.is_some() => return Err(self.lost()),
                () = last.cancelled() => break,
                () = stop.cancelled(), if self.events.is_some() || deadline.is_none() => {
                    self.stops();
                    if deadline.is_none() {
                        // It may be about to take the Lease. Then it gives the Lease back.
                        last.cancelled().await;
                    }
                    continue;
                }
                next = self.turn() => next,
            };
            let Some(next) = next else { return Err(self.lost()) };
            tokio::select! {
                () = last.cancelled() => {}
                () = stop.cancelled(), if self.events.is_some() => {}
                () = sleep_until(next) => {}
            }
        }
        self.release().await;
        Ok(())
    }

    /// Looks at the Lease or writes it, once. Returns the time of the next turn. `None`: the Lease is lost.
    async fn turn(&mut self) -> Option<Instant> {
        let retry = Instant::now() + self.order.periods.retry;
        let answer = match self.known.take() {
            Some(known) => match self.take_turn(Some(known)).await {
                // Somebody else changed it.
                Err(Why::Stale | Why::Gone) => self.read().await,
                answer @ (Ok(_)
                | Err(Why::Invalid(_) | Why::Forbidden(_) | Why::Unauthenticated(_) | Why::Unavailable(_))) => answer,
            },
            None => self.read().await,
        };
        self.lead.answered(answer.as_ref().map(|_| ()));
        match answer {
            Ok(LeaseStep::Write) => Some(retry),
            Ok(LeaseStep::Look(at)) => Some(at),
            Ok(LeaseStep::Lost) => None,
            Err(why) => {
                if why != Why::Stale {
                    self.say(format!("cannot keep up with the Lease {}, trying again: {why}", self.place));
                }
                Some(retry)
            }
        }
    }

    async fn read(&mut self) -> Result<LeaseStep, Why> {
        let read = self.timely(self.api.get_opt(&self.order.name)).await?;
        self.take_turn(read).await
    }

    /// Acts on this Lease.
    async fn take_turn(&mut self, lease: Option<LooseLease>) -> Result<LeaseStep, Why> {
        let spec = lease.as_ref().map(LooseLease::fields);
        let now = Instant::now();
        let mut turn = self.election.sees(spec.as_ref(), now);
        if turn == LeaseStep::Write && self.election.until().is_none() && !(self.able)() {
            turn = LeaseStep::Look(now + self.order.periods.retry);
        }
        if let Some(other) = self.election.other() {
            self.say(format!("{other} leads, by the Lease {}", self.place));
        }
        if turn == LeaseStep::Write {
            self.write(lease).await?;
        }
        Ok(turn)
    }

    /// Writes the Lease, which is unchanged since it was read.
    async fn write(&mut self, lease: Option<LooseLease>) -> Result<(), Why> {
        let is_new = self.election.until().is_none();
        let before = self.election.other().map(str::to_owned);
        let (unchanged, sent) = (self.election.unchanged(Instant::now()), Instant::now());
        let spec = self.election.spec(self.clock.precise());
        let written = self.put(lease, spec).await?;
        self.election.wrote(written.fields(), sent);
        self.lead.leads(self.election.until());
        if is_new {
            let before = before.unwrap_or_else(|| "nobody".to_owned());
            let place = &self.place;
            tracing::info!(lease = place, me = self.me, before, ?unchanged, "this operator leads");
            self.metrics.leads(&self.order.name, true);
            self.about = events::reference(&written);
            self.tell(Reason::LeaseTaken, "became leader");
        }
        self.said = None;
        self.known = Some(written);
        Ok(())
    }

    async fn put(&self, lease: Option<LooseLease>, spec: LeaseFields) -> Result<LooseLease, Why> {
        let params = PostParams { field_manager: Some(name::MANAGER.into()), ..PostParams::default() };
        match lease {
            // With its uid and its resourceVersion.
            Some(lease) => {
                let lease = LooseLease { spec: Some(spec), ..lease };
                self.timely(self.api.replace(&self.order.name, &params, &lease)).await
            }
            None => {
                let metadata = ObjectMeta { name: Some(self.order.name.clone()), ..ObjectMeta::default() };
                let types = Some(TypeMeta::resource::<LooseLease>());
                self.timely(self.api.create(&params, &LooseLease { types, metadata, spec: Some(spec) })).await
            }
        }
    }

    /// The answer to a request, or an error after half of the time in which a renewal has to succeed.
    async fn timely<T>(&self, asked: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Why> {
        let limit: Duration = self.order.periods.renew / 2;
        let late = |_| Err(Why::Unavailable("no answer in time".into()));
        timeout(limit, asked).await.map_or_else(late, |answer| answer.map_err(Why::from))
    }

    /// Gives the Lease away, so that another process leads at once. If that fails, the Lease runs out.
    async fn release(&mut self) {
        self.lead.leads(None);
        self.metrics.leads(&self.order.name, false);
        for _ in 0..RELEASES {
            match self.try_release().await {
                Ok(true) => {
                    return tracing::info!(
                        lease = self.place,
                        me = self.me,
                        "the Lease is released, and another operator leads"
                    );
                }
                Ok(false) => return,
                Err(Why::Stale) => {}
                Err(why) => return self.runs_out(&why),
            }
        }
        self.runs_out(&Why::Stale);
    }

    fn runs_out(&self, why: &Why) {
        if self.election.until().is_some() {
            tracing::warn!(%why, "the Lease {} was not released and runs out", self.place);
        }
    }

    /// True if the Lease was this process's, and is nobody's now.
    async fn try_release(&self) -> Result<bool, Why> {
        let Some(lease) = self.timely(self.api.get_opt(&self.order.name)).await? else { return Ok(false) };
        let spec = lease.fields();
        if spec.holder_identity.as_ref() != Some(&self.me) {
            return Ok(false);
        }
        self.put(Some(lease), Election::released(&spec, self.clock.precise())).await.map(|_| true)
    }

    /// Publishes the last event, and lets the scribe end.
    fn stops(&mut self) {
        if self.election.until().is_some() {
            self.tell(Reason::LeaseReleased, "stops leading, because its process ends");
        }
        self.events = None;
    }

    fn tell(&self, reason: Reason, text: &str) {
        if let Some(events) = &self.events {
            events
                .publish(&Note::normal(EventName::LeaderElection, reason, format!("{} {text}", self.me)), &self.about);
        }
    }

    fn say(&mut self, text: String) {
        if self.said.as_ref() != Some(&text) {
            tracing::info!("{text}");
            self.said = Some(text);
        }
    }

    fn lost(&self) -> io::Error {
        self.lead.leads(None);
        self.metrics.leads(&self.order.name, false);
        let other = self.election.other().unwrap_or("nobody");
        let text = format!(
            "{} lost the Lease {} ({other} holds it), so this process ends, and starts again as a standby",
            self.me, self.place
        );
        io::Error::other(text)
    }
}
