//! corelane: a DNS data plane for Kubernetes.

pub mod cells;
pub mod control;
pub mod data;
pub mod gotemplate;
pub mod limits;
pub mod mail;
pub mod plugin;
pub mod publish;
pub mod regexp;
pub mod snapshot;
pub mod sys;
pub mod wire;
pub mod zone;
