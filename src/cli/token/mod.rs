//! The commands by which users keep their tokens.

mod allowed;
mod asking;
mod change;
pub(crate) mod create;
mod creation;
pub(crate) mod delete;
mod each;
pub(crate) mod end;
pub(crate) mod free;
pub(crate) mod granted;
pub(crate) mod list;
mod needed;
mod overlap;
pub(crate) mod pick;
pub(crate) mod plan;
mod printed;
mod readers;
pub(crate) mod rotate;
pub(crate) mod set;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod times;
pub(crate) mod view;
mod wait;
