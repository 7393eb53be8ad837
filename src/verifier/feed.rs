//! Brings what the watches hear into the index.
#![allow(clippy::disallowed_types, reason = "hands the client to the watches")]

use std::{collections::BTreeSet, sync::Arc};

use futures::{Stream, StreamExt, pin_mut};
use kube::{Client, runtime::watcher::Event};

use super::{
    Judge,
    index::{Indexed, Key},
};
use crate::{
    crd::{AccessPolicy, Account, ApiToken, Instance},
    outside::{Scope, Tasks, watch::Heard},
};

/// Starts a task for each kind that a verdict depends on.
pub fn start(client: &Client, scope: &Scope, judge: &Arc<Judge>, tasks: &mut Tasks) {
    let hearing = judge.hearing();
    tasks.endless("the watch of instances", feed(scope.watch::<Instance>(client, hearing), judge.clone()));
    tasks.endless("the watch of accounts", feed(scope.watch::<Account>(client, hearing), judge.clone()));
    tasks.endless("the watch of tokens", feed(scope.watch::<ApiToken>(client, hearing), judge.clone()));
    tasks.endless("the watch of policies", feed(scope.watch::<AccessPolicy>(client, hearing), judge.clone()));
    tasks.endless("the watch of namespaces", feed(scope.watch_namespaces(client, hearing), judge.clone()));
}

async fn feed<K: Indexed + Send>(events: impl Stream<Item = Heard<K>> + Send, judge: Arc<Judge>) {
    pin_mut!(events);
    let (mut listed, mut doubted) = (Vec::new(), BTreeSet::new());
    let mut synced = false;
    while let Some(heard) = events.next().await {
        let event = match heard {
            Heard::Event(event) => event,
            Heard::Unreadable(namespace, name) => {
                let key = Key { namespace, name };
                judge.learn(|index| index.doubt::<K>(key.clone()));
                doubted.insert(key);
                continue;
            }
            Heard::Gone(namespace, name) => {
                judge.forget::<K>(Key { namespace, name });
                continue;
            }
        };
        match event {
            Event::Apply(object) => judge.learn(|index| index.apply(object)),
            Event::Delete(object) => judge.forget::<K>(Key::of(&object)),
            Event::Init => {
                listed.clear();
                doubted.clear();
            }
            Event::InitApply(object) => listed.push(object),
            Event::InitDone => {
                judge.reset(std::mem::take(&mut listed), &doubted);
                if !std::mem::replace(&mut synced, true) {
                    judge.synced();
                }
            }
        }
    }
}
