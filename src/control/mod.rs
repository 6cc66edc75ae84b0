//! The control plane: what is read, compiled, started, published and told.
#![allow(
    clippy::disallowed_types,
    reason = "off the query path: control may lock, and hash what it likes"
)]

pub mod admin;
pub mod args;
pub mod check;
pub mod compile;
pub mod corefile;
pub mod crew;
pub mod diff;
pub mod doctor;
pub mod explain;
pub mod hand_over;
pub mod identity;
pub mod kube;
pub mod lint;
pub mod logging;
pub mod manual;
pub mod migrate;
pub mod node_local;
pub mod notify;
pub mod queries;
pub mod ready;
pub mod reload;
pub mod resolver;
pub mod sample;
pub mod signals;
pub mod source;
pub mod status;
pub mod supervisor;
pub mod top;
pub mod trust;
pub mod version;
