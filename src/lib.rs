//! corelane: a DNS data plane for Kubernetes.

pub mod control;
pub mod data;
pub mod gotemplate;
pub mod limits;
pub mod regexp;
pub mod sys;
pub mod wire;
