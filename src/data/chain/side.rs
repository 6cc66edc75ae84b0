//! How the reply to a question that a plugin asked becomes the reply of its own level.

use super::cx::Cx;
use super::level::ReplyState;
use crate::wire::{Draft, Question, WireError};

impl Cx<'_> {
    /// Makes the reply to the question that was asked last this level's, its records as `each`
    /// leaves them, with this level's question, or if `restored` is false with that other one. A
    /// failure, or that there is none, is taken over as it is.
    ///
    /// # Errors
    /// There is no room for it: the reply is empty.
    pub fn take_side(
        &mut self,
        restored: bool,
        each: impl FnMut(&mut Draft<'_>) -> bool,
    ) -> Result<(), WireError> {
        let (here, side) = self.both();
        here.clear_reply();
        here.state = side.state;
        here.by = side.by;
        here.reason = side.reason;
        here.source = side.source;
        if !side.extra.is_blank() {
            here.extra = side.extra;
        }
        if side.state != ReplyState::Written {
            return Ok(());
        }
        let needs_room = side.reply.len() > here.reply.capacity();
        if needs_room {
            let depth = self.walk.depth;
            self.core.large.enlarge(&mut self.walk.levels[depth].reply);
        }
        let (here, side) = self.both();
        let question = match restored {
            true => Question {
                name: here.name.as_name(),
                lower: here.lower.as_name(),
                rtype: here.rtype,
                rclass: here.rclass,
            },
            false => side.question(),
        };
        let built = here.reply.rebuild(side.reply.bytes(), Some(question), each);
        match built {
            Ok(()) => {
                here.reply.set_id(here.asked.id);
                here.reply.set_rcode(side.reply.rcode());
            }
            Err(_) => here.state = ReplyState::Empty,
        }
        built
    }

    /// Puts the answers to the question that was asked last behind those of this level's answers
    /// for which `keep`, given a record, says so; with its TC.
    ///
    /// # Errors
    /// There is no room for them: the reply is as it was.
    pub fn add_side(&mut self, keep: impl FnMut(&mut Draft<'_>) -> bool) -> Result<(), WireError> {
        let depth = self.walk.depth;
        let (here, side) = self.walk.levels.split_at_mut(depth + 1);
        let (here, side) = (&mut here[depth], &side[0]);
        let is_written = side.state == ReplyState::Written;
        let from = if is_written { Some(side.reply.bytes()) } else { None };
        if here.reply.len() + from.map_or(0, <[u8]>::len) > here.reply.capacity() {
            self.core.large.grow(&mut here.reply);
        }
        let scratch = Self::scratch_for(&mut self.walk.scratch, here.reply.capacity());
        here.reply.splice(from, scratch, keep)?;
        let flags = here.reply.flags();
        here.reply.set_flags(flags.with_tc(is_written && side.reply.flags().tc()));
        Ok(())
    }

    /// Gives the level's reply room for 64 KiB and keeps what it holds, if a buffer is free.
    pub fn grow(&mut self) {
        let depth = self.walk.depth;
        self.core.large.grow(&mut self.walk.levels[depth].reply);
    }
}
