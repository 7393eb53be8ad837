//! The life of a token.

use serde_json::json;

use crate::harness::{
    World,
    clock::{Held, hours},
};

#[tokio::test]
async fn the_smallest_token_is_minted_delivered_accepted_rotated_and_revoked() {
    let world = World::new("smallest").await;
    let clock = Held::default();
    let (operator, verifier) = (world.operator(&clock).await, world.verifier(&clock).await);
    world.smallest().await;

    let first = world.await_generation("ci", 1).await;
    assert_eq!(verifier.present(&world, &first).await, 200);
    world.await_reason("ci", "Active").await;

    // 90 days, of which two thirds are 60.
    clock.move_by(hours(60 * 24));
    let second = world.await_generation("ci", 2).await;
    assert_ne!(first, second);
    assert_eq!(verifier.present(&world, &second).await, 200);
    assert_eq!(verifier.present(&world, &first).await, 200);
    world.await_reason("ci", "Rotating").await;

    clock.move_by(hours(25));
    world.await_reason("ci", "Active").await;
    assert_eq!(verifier.present(&world, &first).await, 401);
    assert_eq!(verifier.present(&world, &second).await, 200);

    world.change("ApiToken", "ci", json!({"revoked": true})).await.unwrap();
    world.await_reason("ci", "Revoked").await;
    assert_eq!(verifier.present(&world, &second).await, 401);
    assert_eq!(world.value("ci").await, None);
    operator.stop().await;
}
