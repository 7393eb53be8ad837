//! The only rooms that touch the world: the clock, randomness, the API server, the network, the terminal.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "this is where they belong")]

pub mod address;
pub mod cache;
pub mod clock;
pub mod connect;
pub mod crowd;
pub mod entropy;
pub mod events;
pub mod extent;
pub mod foreign;
pub mod hearing;
pub mod joint;
pub mod managed;
pub mod metrics;
pub mod optional;
mod patience;
pub mod peers;
pub mod probes;
mod proxy;
mod question;
pub mod readable;
pub mod reader;
pub mod refusal;
mod replaced;
pub mod server;
pub mod store;
pub mod tasks;
pub mod telemetry;
mod trouble;
pub mod watch;
pub mod workload;
pub mod writer;

pub use address::{Address, Taken};
pub use cache::Cache;
pub use clock::{Clock, SystemClock};
pub use entropy::{Entropy, NoRandomness, SystemEntropy};
pub use extent::Extent;
pub use hearing::Hearing;
pub use joint::Joint;
pub use optional::Optional;
pub use reader::Reader;
pub use refusal::{Refusal, Why};
pub use store::Store;
pub use tasks::Tasks;
pub use workload::Workload;
pub use writer::{Expected, Receipt, Writer};
