//! A library: a cluster's objects in, the answers of the Kubernetes DNS specification out.
//!
//! In the order that data takes: [`object`] are the parts of the API's objects that answers need,
//! [`feed`] is how whoever watches a cluster hands them in; [`writer`] applies the difference to the
//! [`index`], which is made of [`table`]s of what [`record`] holds; [`request`] is what a name in a
//! question means, [`selector`] which objects are wanted; [`answer`] writes the reply, [`outside`] that
//! of the zones by which services are known from outside.

pub mod answer;
mod export;
pub mod feed;
pub mod index;
pub mod object;
pub mod outside;
pub mod record;
pub mod request;
pub mod selector;
pub mod table;
pub mod top_level;
pub mod writer;
