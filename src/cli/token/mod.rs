//! The commands by which users keep their tokens.

mod allowed;
mod change;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod end;
pub(crate) mod list;
mod pick;
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
