//! corelane: a DNS data plane for Kubernetes.

pub mod limits;
