//! The wait of Instances for the certificates that Traefik trusts. Else a Middleware that changes to HTTPS would have
//! none for a moment, and Traefik would refuse all requests.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use kube::runtime::reflector::ObjectRef;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Sleep, sleep},
};

use super::handed::{HandOut, is_guarded};
use crate::{controller::Caches, crd::Instance};

/// How long a namespace waits after a failure. Then its Instances are served all the same.
const PATIENCE: Duration = Duration::from_secs(30);

/// The namespaces that have their turn, and the items that wait for it. Pure.
struct Turns<T> {
    given: HashSet<String>,
    failed: HashSet<String>,
    waiting: BTreeMap<String, Vec<T>>,
    /// True once there was a result for some namespace.
    has_begun: bool,
    /// True once the patience is over.
    is_late: bool,
}

impl<T: PartialEq> Turns<T> {
    fn new() -> Self {
        let (given, failed) = (HashSet::new(), HashSet::new());
        Self { given, failed, waiting: BTreeMap::new(), has_begun: false, is_late: false }
    }

    /// True if nothing of this namespace waits. After the patience, a namespace that is not tried yet waits on, unless
    /// none was tried at all.
    fn is_open(&self, namespace: &str) -> bool {
        self.given.contains(namespace) || (self.is_late && (!self.has_begun || self.failed.contains(namespace)))
    }

    /// Returns `item`, or keeps it until the namespace has its turn.
    fn arrive(&mut self, namespace: &str, item: T) -> Option<T> {
        if self.is_open(namespace) {
            return Some(item);
        }
        let waiting = self.waiting.entry(namespace.to_owned()).or_default();
        if !waiting.contains(&item) {
            waiting.push(item);
        }
        None
    }

    /// Handles a result. Returns the items that waited for it.
    fn hear(&mut self, HandOut { namespace, is_given }: HandOut) -> Vec<T> {
        self.has_begun = true;
        let namespaces = if is_given { &mut self.given } else { &mut self.failed };
        namespaces.insert(namespace.clone());
        if self.is_open(&namespace) { self.waiting.remove(&namespace).unwrap_or_default() } else { Vec::new() }
    }

    /// Ends the patience. Returns the items that waited for it.
    fn end_patience(&mut self) -> Vec<T> {
        self.is_late = true;
        let all = std::mem::take(&mut self.waiting).into_iter();
        let (open, waiting): (Vec<_>, Vec<_>) = all.partition(|(namespace, _)| self.is_open(namespace));
        self.waiting = waiting.into_iter().collect();
        open.into_iter().flat_map(|(_, items)| items).collect()
    }
}

/// A stream of Instances in which each waits for the turn of its namespace.
struct InTurn<S> {
    names: S,
    results: UnboundedReceiver<HandOut>,
    caches: Arc<Caches>,
    turns: Turns<ObjectRef<Instance>>,
    open: VecDeque<ObjectRef<Instance>>,
    patience: Option<Pin<Box<Sleep>>>,
}

/// `names`, in which an Instance with a guard of Traefik comes after its namespace got the certificates. Half a minute
/// after the first name, it comes all the same if its namespace cannot get them. Other namespaces never wait for that.
pub fn in_turn(
    names: impl Stream<Item = ObjectRef<Instance>> + Send + Unpin + 'static,
    results: UnboundedReceiver<HandOut>,
    caches: Arc<Caches>,
) -> BoxStream<'static, ObjectRef<Instance>> {
    let all = InTurn { names, results, caches, turns: Turns::new(), open: VecDeque::new(), patience: None };
    stream::unfold(all, |mut all| async move { all.next().await.map(|name| (name, all)) }).boxed()
}

impl<S: Stream<Item = ObjectRef<Instance>> + Unpin> InTurn<S> {
    async fn next(&mut self) -> Option<ObjectRef<Instance>> {
        loop {
            if let Some(name) = self.open.pop_front() {
                return Some(name);
            }
            let waits = self.patience.is_some() && !self.turns.is_late;
            let patience = async { self.patience.as_mut().expect("the time of a wait").await };
            tokio::select! {
                name = self.names.next() => self.arrive(name?),
                Some(result) = self.results.recv() => self.open.extend(self.turns.hear(result)),
                () = patience, if waits => self.open.extend(self.turns.end_patience()),
            }
        }
    }

    fn arrive(&mut self, name: ObjectRef<Instance>) {
        self.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        let namespace = name.namespace.clone().unwrap_or_default();
        let instance = self.caches.instances.get(&namespace, &name.name);
        let waits = instance.is_some_and(|it| it.metadata.deletion_timestamp.is_none() && is_guarded(&it));
        let open = if waits { self.turns.arrive(&namespace, name) } else { Some(name) };
        self.open.extend(open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(namespace: &str) -> HandOut {
        HandOut { namespace: namespace.to_owned(), is_given: true }
    }

    fn failed(namespace: &str) -> HandOut {
        HandOut { namespace: namespace.to_owned(), is_given: false }
    }

    #[test]
    fn a_namespace_that_cannot_get_the_certificates_delays_itself_alone() {
        let mut turns = Turns::new();
        for (namespace, item) in [("a", 1), ("b", 2), ("b", 3), ("b", 3), ("c", 4)] {
            assert_eq!(turns.arrive(namespace, item), None);
        }
        assert_eq!(turns.hear(failed("a")), [0; 0]);
        assert_eq!(turns.hear(given("b")), [2, 3]);
        assert_eq!(turns.arrive("b", 5), Some(5));
        assert_eq!(turns.end_patience(), [1]);
        assert_eq!((turns.arrive("a", 6), turns.arrive("c", 7)), (Some(6), None), "it was not tried yet");
        assert_eq!(turns.hear(failed("c")), [4, 7]);
        assert_eq!((turns.arrive("d", 8), turns.hear(given("d"))), (None, vec![8]));
    }

    #[test]
    fn without_any_certificates_all_are_served_after_the_patience() {
        let mut turns = Turns::new();
        assert_eq!(turns.arrive("a", 1), None);
        assert_eq!(turns.end_patience(), [1]);
        assert_eq!(turns.arrive("b", 2), Some(2));
    }
}
