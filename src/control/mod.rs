//! The control plane: what is read, compiled, started, published and told.

pub mod admin;
pub mod args;
pub mod logging;
pub mod version;
