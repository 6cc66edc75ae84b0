//! Aliases: services that are another name, endpoints that are.

use super::found::Found;
use super::{Answering, Outcome, Written};
use crate::cluster::request::Request;
use crate::limits::CLUSTER_ALIASES_MAX;
use crate::wire::{Name, NameBuf, Section, rtype};

impl<'a> Answering<'a, '_> {
    /// The question's name leads to `target`: goes on while that is a name of this zone, and writes
    /// the aliases and what they lead to. An alias that leads to nothing here has no addresses, and
    /// neither has one that leads below itself (as in CoreDNS).
    pub(super) fn follow(&mut self, mut target: Name<'a>) -> Written {
        let start = self.reply.mark();
        let ttl = self.rules.ttl;
        let mut owner = NameBuf::from(self.question.name);
        for _ in 0..CLUSTER_ALIASES_MAX {
            if target.is_under(owner.as_name()) {
                break;
            }
            let name = owner.as_name();
            self.reply.push_name(Section::Answer, name, rtype::CNAME, target, ttl)?;
            if !target.is_under(self.apex) {
                return Ok(Outcome::Chase { target: NameBuf::from(target) });
            }
            let lower = NameBuf::lowered(target);
            let found = self.found_at(&lower);
            if let Some(next) = found.alias() {
                owner = NameBuf::from(target);
                target = next;
                continue;
            }
            let before = self.reply.counts().answer;
            self.write_addresses(&found, target)?;
            if self.reply.counts().answer > before {
                return Ok(Outcome::Answer);
            }
            break;
        }
        self.reply.rewind(start);
        Ok(Outcome::NoData)
    }

    /// What stands at a name of the zone.
    fn found_at<'n>(&self, lower: &'n NameBuf) -> Found<'a, 'n> {
        let name = lower.as_name();
        let apex = &name.as_bytes()[name.len() - self.apex.len()..];
        let apex = Name::from_wire(apex).map_or(Name::ROOT, |(apex, _)| apex);
        let request = Request::read(name, apex, self.rules.grammar(self.zone));
        self.rules.find(self.index, request, self.zone.is_imported, name)
    }
}
