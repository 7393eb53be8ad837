//! The memory per token.

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenry::{
    crd::{Account, ApiToken},
    verifier::index::{Doubted, Index},
};

use crate::objects;

/// Number of tokens in the index.
const TOKENS: usize = 10_000;

/// Prints the memory per token of a verifier that reads the tokens from a list. Each token has a separate account, two
/// generations and one use.
pub fn report() {
    let tokens = TOKENS;
    let before = resident();
    let mut index = Index::default();
    let pools = index.pools();
    index.reset((0..tokens).map(|n| pools.reduce(of::<ApiToken>(objects::token(n)))).collect(), &Doubted::new());
    index.reset((0..tokens).map(|n| pools.reduce(of::<Account>(objects::account(n)))).collect(), &Doubted::new());
    let bytes = (resident() - before) / tokens as f64;
    println!("{:<58}{:>10.2} KiB", "a token in memory, with its account", bytes / 1024.0);
    assert!(index.any_token(None).is_some());
}

fn of<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

/// Resident memory of this process, in bytes.
#[cfg(target_os = "linux")]
fn resident() -> f64 {
    let status = procfs::process::Process::myself().and_then(|process| process.status()).unwrap();
    status.vmrss.unwrap() as f64 * 1024.0
}

/// Memory is measured on Linux only.
#[cfg(not(target_os = "linux"))]
fn resident() -> f64 {
    f64::NAN
}
