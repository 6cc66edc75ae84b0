//! The Kubernetes API server, as control sees it: connecting, listing, watching.
//!
//! What the plugin `kubernetes` hands over is a [`Settings`]; from it come a client ([`config`]).
#![allow(missing_docs)]

pub mod config;
