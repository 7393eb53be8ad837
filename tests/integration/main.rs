//! Against a real kube-apiserver and etcd, with the rights that the chart grants.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::too_many_lines,
    clippy::too_many_arguments,
    reason = "nobody builds on a test"
)]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests stand outside and look at everything")]

mod access;
mod admission;
mod argo;
mod audit;
mod availability;
mod awaited;
mod bad_endpoints;
mod book;
#[path = "../../examples/bundle/bundle.rs"]
mod bundle;
mod by_hand;
#[path = "../shared/caddy.rs"]
mod caddy;
mod certificate;
mod chart;
mod continuity;
mod crash;
mod default_role;
mod definitions;
#[path = "../shared/durations.rs"]
mod durations;
mod edges;
mod ending;
mod examples;
mod floods;
mod former;
mod fuzzed;
mod gitops;
mod grants;
mod harness;
mod hearing;
mod inherited;
mod instance;
mod introspection;
mod intrusion;
mod irrevocable;
mod kubernetes_api;
mod leading;
#[path = "../shared/levels.rs"]
mod levels;
mod life;
#[path = "../../examples/krew/manifest.rs"]
mod manifest;
#[path = "../shared/manifests.rs"]
mod manifests;
mod metrics;
mod monitoring;
mod neighbours;
mod network;
mod offline;
mod olm;
mod once;
mod operating;
mod organizations;
mod outward;
mod owners;
mod parent;
mod plugin;
mod preconditions;
mod products;
mod proxies;
mod random;
mod reached;
#[path = "../shared/reference/mod.rs"]
mod reference;
mod release;
mod requests;
mod rest;
mod restart;
mod scoped;
mod secrecy;
mod secret;
#[path = "../shared/sent.rs"]
mod sent;
mod structure;
mod switches;
mod traces;
mod unguarded;
mod upgraded;
mod verdicts;
mod widening;
mod without_helm;
mod workflow;
