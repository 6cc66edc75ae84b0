//! What stands in a chain where a link was that nobody needs any more.
//!
//! A stream that waits for its client over a reload keeps the links that will be resumed for it, and
//! no others ([`Generation::keep_streams`](crate::data::generation::Generation::keep_streams)). Should
//! one of them hand the query to a link that is gone, that is SERVFAIL. No directive makes it.

use super::{Cx, Plugin, Step};
use crate::wire::rcode;

/// The place of a link.
pub struct Gone {
    /// The name of the link that was there, for metrics and logs.
    pub name: &'static str,
}

impl Plugin for Gone {
    type Frame = ();
    type Local = ();

    fn name(&self) -> Option<&'static str> {
        Some(self.name)
    }

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<()> {
        cx.fail(rcode::SERVFAIL, format_args!("the plugin is gone since a reload"));
        Step::Up
    }
}
