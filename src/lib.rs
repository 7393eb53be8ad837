//! Tokenry issues API access tokens the Kubernetes way.

pub mod access;
pub mod crd;
pub mod exposure;
pub mod token;
