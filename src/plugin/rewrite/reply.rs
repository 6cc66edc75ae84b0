//! What is done to the reply before it goes up.
//!
//! The rules that were applied to the query are gone through backwards for each record, as CoreDNS
//! does: names, TTLs, the target of an alias. Then the rcode, and the options that the client is not
//! to see.

use super::names::{Changed, Patterns, Subject, Texts};
use super::notes::{Note, Notes};
use super::rule::{Back, Does, Part, Rule};
use crate::wire::{Draft, Name, NameBuf, Rcode, Section, rtype};

/// The edits of one reply.
pub(super) struct Edits<'e> {
    pub(super) rules: &'e [Rule],
    pub(super) notes: &'e Notes,
    pub(super) patterns: &'e mut Patterns,
    pub(super) texts: &'e mut Texts,
    /// Records of the answer section so far.
    answers: u16,
    /// Which of them is the alias that leads elsewhere now, and where.
    pub(super) target: Option<(u16, NameBuf)>,
    /// Whether a change has made what is no name.
    pub(super) illegal: bool,
}

impl<'e> Edits<'e> {
    pub(super) fn new(
        rules: &'e [Rule],
        notes: &'e Notes,
        patterns: &'e mut Patterns,
        texts: &'e mut Texts,
    ) -> Self {
        Self { rules, notes, patterns, texts, answers: 0, target: None, illegal: false }
    }

    /// Begins again with the first record.
    pub(super) fn restart(&mut self) {
        self.answers = 0;
        self.target = None;
        self.illegal = false;
    }

    /// Whether names of records may change.
    pub(super) fn touch_names(&self) -> bool {
        self.notes.backwards().any(|(number, _)| {
            let does = self.rules.get(number).map(|rule| &rule.does);
            matches!(does, Some(Does::Name(_) | Does::Cname(_)))
        })
    }

    /// Whether TTLs may change.
    pub(super) fn touch_ttls(&self) -> bool {
        self.notes.backwards().any(|(number, _)| {
            let does = self.rules.get(number).map(|rule| &rule.does);
            matches!(does, Some(Does::Ttl { .. }))
        })
    }

    /// The TTL that a record is to have.
    pub(super) fn ttl(&self, mut ttl: u32) -> u32 {
        for (number, _) in self.notes.backwards() {
            if let Some(Does::Ttl { least, most, .. }) = self.rules.get(number).map(|r| &r.does) {
                ttl = ttl.clamp(*least, *most);
            }
        }
        ttl
    }

    /// The rcode that the reply is to have.
    pub(super) fn rcode(&self, mut code: Rcode) -> Rcode {
        for (number, _) in self.notes.backwards() {
            match self.rules.get(number).map(|rule| &rule.does) {
                Some(Does::Rcode { from, to, .. }) if *from == code => code = *to,
                _ => {}
            }
        }
        code
    }

    /// Edits one record; it is always kept.
    pub(super) fn record(&mut self, draft: &mut Draft<'_>) -> bool {
        draft.ttl = self.ttl(draft.ttl);
        for (number, note) in self.notes.backwards() {
            match (self.rules.get(number).map(|rule| &rule.does), note) {
                (Some(Does::Name(_)), Note::Back(from, to)) => {
                    self.back(&mut draft.owner, from, to);
                    if let Some(value) = value_of(draft) {
                        self.back(value, from, to);
                    }
                }
                (Some(Does::Name(rule)), _) => {
                    for answer in rule.answers.iter().rev() {
                        let name = match answer.part {
                            Part::Owner => Some(&mut draft.owner),
                            Part::Value => value_of(draft),
                        };
                        if let Some(name) = name {
                            self.change(name, &answer.change);
                        }
                    }
                    if let Back::Suffix(change) = &rule.back {
                        self.change(&mut draft.owner, change);
                        if let Some(value) = value_of(draft) {
                            self.change(value, change);
                        }
                    }
                }
                (Some(Does::Cname(change)), _) => self.alias(draft, change),
                _ => {}
            }
        }
        self.answers += u16::from(draft.section() == Section::Answer);
        true
    }

    /// What was asked for, or a name below it, becomes what the client asked for.
    fn back(&mut self, name: &mut NameBuf, from: Name<'_>, to: Name<'_>) {
        let Some(prefix) = name.as_name().strip(from) else { return };
        match NameBuf::join(prefix, to) {
            Ok(changed) => *name = changed,
            Err(_) => self.illegal = true,
        }
    }

    fn change(&mut self, name: &mut NameBuf, change: &super::names::Change) {
        let mut subject = Subject::new(*name, self.texts);
        match change.apply(&mut subject, self.patterns) {
            Changed::Not => {}
            Changed::To(changed) => *name = changed,
            Changed::Illegal => self.illegal = true,
        }
    }

    /// The first alias among the answers whose target the rule is for gets another target.
    fn alias(&mut self, draft: &mut Draft<'_>, change: &super::names::Change) {
        if draft.rtype() != rtype::CNAME
            || draft.section() != Section::Answer
            || self.target.is_some()
        {
            return;
        }
        let Some(target) = draft.names_mut().first_mut() else { return };
        let mut subject = Subject::new(NameBuf::lowered(target.as_name()), self.texts);
        match change.apply(&mut subject, self.patterns) {
            Changed::Not => {}
            Changed::To(changed) => {
                *target = changed;
                self.target = Some((self.answers, changed));
            }
            Changed::Illegal => self.illegal = true,
        }
    }
}

/// The name that a record leads to, of the types that CoreDNS has changed: the primary server of a SOA.
fn value_of<'d>(draft: &'d mut Draft<'_>) -> Option<&'d mut NameBuf> {
    match draft.rtype() {
        rtype::SRV
        | rtype::MX
        | rtype::CNAME
        | rtype::NS
        | rtype::DNAME
        | rtype::NAPTR
        | rtype::SOA
        | rtype::PTR => draft.names_mut().first_mut(),
        _ => None,
    }
}
