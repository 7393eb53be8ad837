//! Tokenry issues API access tokens the Kubernetes way. The README describes the features, and each module its own
//! part.
//!
//! The modules, in the direction of the data: [`crd`] holds the objects that users write. [`token`], [`access`] and
//! [`exposure`] decide. [`controller`] reads, decides and writes. [`verifier`] judges the tokens that callers present.
//! [`outside`] is the only module that touches the outside world. [`operator`] and [`cli`] wire the modules together.

pub mod access;
pub mod admission;
pub mod cli;
pub mod controller;
pub mod crd;
pub mod exposure;
pub mod operator;
pub mod outside;
pub mod token;
pub mod verifier;
