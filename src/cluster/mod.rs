//! A library: a cluster's objects in, the answers of the Kubernetes DNS specification out.
//!
//! In the order that data takes: [`object`] are the parts of the API's objects that answers need,
//! [`feed`] is how whoever watches a cluster hands them in.

pub mod feed;
pub mod object;
