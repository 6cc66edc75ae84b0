//! The chain of plugins: steps and frames as data (the way of a query, part 4 of 6).
//!
//! [`step`] is what a plugin may say, [`level`] is one question on its way and the reply to it,
//! [`cx`] is what a plugin sees, `side.rs` how it takes over the reply to a question of its own, [`walk`] is the one loop that moves the cursor,
//! [`marks`] is what it tells of where a walk's time goes.

pub mod cx;
pub mod level;
pub mod marks;
mod side;
pub mod step;
pub mod text;
pub mod walk;

pub use cx::{Client, Core, Cx, Event, Transport};
pub use level::{Asked, Level, Reason, ReplyState, Source};
pub use marks::{Marking, Marks};
pub use step::{Entry, Exchange, Fetch, Fetched, Step};
pub use text::Text;
pub use walk::{Outcome, Walk};
