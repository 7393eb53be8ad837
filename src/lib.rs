//! Tokenry issues API access tokens the Kubernetes way. See the README for what it does, and each module for how.
//!
//! The rooms, in the direction that data takes: [`crd`] is what users write; [`token`], [`access`] and [`exposure`]
//! decide; [`controller`] reads, decides and writes; [`verifier`] judges what callers present; [`outside`] is the only
//! room that touches the world; [`operator`] and [`cli`] wire them together.

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
