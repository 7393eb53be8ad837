//! One tenant does not hold another up.

use serde_json::{Value, json};

use crate::harness::{World, clock::Held, root};

/// Tokens of the noisy neighbour, and of the other.
const NOISY: usize = 60;
const QUIET: usize = 6;

/// The namespaces of the Secrets in the order in which they were published.
fn published(world: &World) -> Vec<String> {
    let made = world.audited().into_iter().filter(|event| event.resource == "secrets" && event.code == 201);
    made.map(|event| event.namespace).collect()
}

#[tokio::test]
async fn a_neighbour_with_many_tokens_that_are_costly_does_not_delay_anothers() {
    let quiet = World::alone("quiet").await;
    quiet.plane.install_crds(root()).unwrap();
    let noisy = quiet.beside("noisy", json!({})).await;
    for world in [&noisy, &quiet] {
        world.accepts("Instance", "eem", json!({})).await;
    }
    let reference = json!({"instanceRef": {"name": "eem"}});
    for nth in 0..NOISY {
        let text = "{{ name }}".repeat(400);
        // More than what may be checked beside others.
        let data: serde_json::Map<String, Value> = (0..5).map(|key| (key.to_string(), json!(text))).collect();
        let spec = json!({"instanceRef": {"name": "eem"}, "secret": {"data": data}});
        noisy.accepts("ApiToken", &format!("costly-{nth}"), spec).await;
    }
    for nth in 0..QUIET {
        quiet.accepts("ApiToken", &format!("ci-{nth}"), reference.clone()).await;
    }
    // All of them are heard of at once, in no order.
    let _operator = quiet.operator(&Held::default()).await;
    for (world, name, count) in [(&quiet, "ci", QUIET), (&noisy, "costly", NOISY)] {
        for nth in 0..count {
            world.await_reason(&format!("{name}-{nth}"), "Active").await;
        }
    }
    let published = published(&quiet);
    assert_eq!(published.len(), QUIET + NOISY);
    let last = published.iter().rposition(|namespace| *namespace == quiet.namespace).unwrap();
    assert!(
        last < published.len() / 2,
        "the last of {QUIET} was published after {} of {NOISY} of the neighbour",
        last + 1 - QUIET
    );
}
