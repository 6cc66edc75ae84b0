//! A link whose steps are closures of the test that made it.

use crate::plugin::{Cx, Plugin, Step};
use crate::wire::Question;

/// What a probe remembers.
pub type Note = [u64; 4];
/// What it does with a query from above.
pub type Serve = Box<dyn Fn(&mut Cx<'_>) -> Step<Note> + Send + Sync>;
/// What it does after a wait, a question, or one message of many.
pub type Resume = Box<dyn Fn(&mut Cx<'_>, Note) -> Step<Note> + Send + Sync>;
/// How it begins a walk without a client.
pub type Detached = Box<dyn Fn(&mut Cx<'_>, u64) -> Step<Note> + Send + Sync>;

/// What it does with a question before it is served: touched first (`false`), or next (`true`).
pub type Hint = Box<dyn Fn(Question<'_>, bool) + Send + Sync>;

/// The link.
pub struct Probe {
    serve: Serve,
    resume: Resume,
    detached: Detached,
    hint: Hint,
}

impl Probe {
    /// Serves so, and hands up whatever it is resumed with.
    pub fn serving(serve: impl Fn(&mut Cx<'_>) -> Step<Note> + Send + Sync + 'static) -> Self {
        Self {
            serve: Box::new(serve),
            resume: Box::new(|_, _| Step::Up),
            detached: Box::new(|_, _| Step::Next),
            hint: Box::new(|_, _| ()),
        }
    }

    /// As it is, and is hinted so.
    pub fn hinted_by(mut self, hint: impl Fn(Question<'_>, bool) + Send + Sync + 'static) -> Self {
        self.hint = Box::new(hint);
        self
    }

    /// As it is, and resumes so.
    pub fn resuming(
        mut self,
        resume: impl Fn(&mut Cx<'_>, Note) -> Step<Note> + Send + Sync + 'static,
    ) -> Self {
        self.resume = Box::new(resume);
        self
    }

    /// As it is, and begins walks without a client so.
    pub fn detached_by(
        mut self,
        detached: impl Fn(&mut Cx<'_>, u64) -> Step<Note> + Send + Sync + 'static,
    ) -> Self {
        self.detached = Box::new(detached);
        self
    }
}

impl Plugin for Probe {
    type Frame = Note;
    type Local = ();

    const HINTS: bool = true;

    fn local(&self, _core: u16) {}

    fn hint(&self, (): &(), question: Question<'_>) -> u64 {
        (self.hint)(question, false);
        7
    }

    fn hint_next(&self, (): &(), question: Question<'_>, place: u64) {
        assert_eq!(place, 7, "what hint gave");
        (self.hint)(question, true);
    }

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<Note> {
        (self.serve)(cx)
    }

    fn resume(&self, (): &mut (), cx: &mut Cx<'_>, note: Note) -> Step<Note> {
        (self.resume)(cx, note)
    }

    fn detached(&self, (): &mut (), cx: &mut Cx<'_>, note: u64) -> Step<Note> {
        (self.detached)(cx, note)
    }
}
