//! Brings what the watches hear into the index.
#![allow(clippy::disallowed_types, reason = "hands the client to the watches")]

use std::sync::Arc;

use futures::{Stream, StreamExt, pin_mut};
use kube::{Client, runtime::watcher::Event};

use super::{Judge, index::Indexed};
use crate::{
    crd::{AccessPolicy, Account, ApiToken, Instance},
    outside::{Scope, Tasks},
};

/// Starts a task for each kind that a verdict depends on.
pub fn start(client: &Client, scope: &Scope, judge: &Arc<Judge>, tasks: &mut Tasks) {
    tasks.endless("the watch of instances", feed(scope.watch::<Instance>(client), judge.clone()));
    tasks.endless("the watch of accounts", feed(scope.watch::<Account>(client), judge.clone()));
    tasks.endless("the watch of tokens", feed(scope.watch::<ApiToken>(client), judge.clone()));
    tasks.endless("the watch of policies", feed(scope.watch::<AccessPolicy>(client), judge.clone()));
    tasks.endless("the watch of namespaces", feed(scope.watch_namespaces(client), judge.clone()));
}

async fn feed<K: Indexed + Send>(events: impl Stream<Item = Event<K>> + Send, judge: Arc<Judge>) {
    pin_mut!(events);
    let mut listed = Vec::new();
    let mut synced = false;
    while let Some(event) = events.next().await {
        match event {
            Event::Apply(object) => judge.learn(|index| index.apply(object)),
            Event::Delete(object) => judge.learn(|index| index.delete(&object)),
            Event::Init => listed.clear(),
            Event::InitApply(object) => listed.push(object),
            Event::InitDone => {
                judge.learn(|index| index.reset(std::mem::take(&mut listed)));
                if !std::mem::replace(&mut synced, true) {
                    judge.synced();
                }
            }
        }
    }
}
