//! corelane: a DNS data plane for Kubernetes.

pub mod data;
pub mod limits;
