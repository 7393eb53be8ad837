//! Configuration of property tests. Each prints the seed of its cases, so that a failure can be run again.

use std::hash::{BuildHasher, RandomState};

use proptest::test_runner::{Config, RngSeed};

/// The number of cases in `PROPTEST_CASES`, or proptest's default.
pub(crate) fn usual() -> Config {
    so_many(Config::default().cases)
}

/// A configuration of `cases` cases. It prints the seed. A failed test shows the seed, which generates the same cases
/// again.
pub(crate) fn so_many(cases: u32) -> Config {
    let given = Config::default();
    let seed = match given.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().hash_one(()),
    };
    println!("PROPTEST_RNG_SEED={seed} tries these cases again");
    Config { cases, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..given }
}

#[test]
fn a_seed_tries_the_same_cases_again() {
    use proptest::{prelude::any, strategy::Strategy, test_runner::TestRunner};
    let seeded = so_many(3);
    let tried = |config: Config| {
        let mut runner = TestRunner::new(config);
        let mut draw = || any::<u64>().new_tree(&mut runner).map(|tree| proptest::strategy::ValueTree::current(&tree));
        [draw(), draw(), draw()].map(Result::unwrap)
    };
    assert_eq!(tried(seeded.clone()), tried(seeded.clone()));
    let other =
        Config { rng_seed: RngSeed::Fixed(seeded.rng_seed.to_string().parse::<u64>().unwrap() ^ 1), ..seeded.clone() };
    assert_ne!(tried(seeded), tried(other));
}
