//! Which names a rule is for, and what it makes of them.
//!
//! CoreDNS compares and replaces the presentation form of names, in lower case and with the final
//! dot; so does this, but for whole names and for suffixes that begin with a dot, which are compared
//! label by label: the same for all names but those with a dot within a label. Expressions are those
//! of the worker. Nothing allocates; a text is made of a name only when a rule wants to see it.
//! RFC 4343 section 3.

use std::fmt::Write as _;

use regex::{CaptureLocations, Regex};

use crate::gotemplate::TextBuf;
use crate::limits::NAME_TEXT_BYTES_MAX;
use crate::wire::{Name, NameBuf};

/// The expressions of a worker, with room for their groups.
pub(super) type Patterns = Vec<(Regex, CaptureLocations)>;

/// Room for a name's text, and for what becomes of it.
pub(super) struct Texts {
    name: [u8; NAME_TEXT_BYTES_MAX],
    /// Octets of `name` in use; 0: the text is not made yet.
    len: usize,
    made: [u8; NAME_TEXT_BYTES_MAX],
}

impl Texts {
    pub(super) fn new() -> Self {
        Self { name: [0; NAME_TEXT_BYTES_MAX], len: 0, made: [0; NAME_TEXT_BYTES_MAX] }
    }
}

/// A name that rules look at, with its text once it is made.
pub(super) struct Subject<'t> {
    name: NameBuf,
    texts: &'t mut Texts,
}

impl<'t> Subject<'t> {
    pub(super) fn new(name: NameBuf, texts: &'t mut Texts) -> Self {
        texts.len = 0;
        Self { name, texts }
    }

    pub(super) fn name(&self) -> Name<'_> {
        self.name.as_name()
    }

    pub(super) fn set(&mut self, name: NameBuf) {
        self.name = name;
        self.texts.len = 0;
    }

    fn text(&mut self) -> (&str, &mut [u8]) {
        let Texts { name, len, made } = &mut *self.texts;
        if *len == 0 {
            let mut text = TextBuf::new(name);
            let written = write!(text, "{}", self.name);
            debug_assert!(written.is_ok(), "the buffer holds any name's text");
            *len = text.len();
        }
        (std::str::from_utf8(&name[..*len]).unwrap_or_default(), made)
    }
}

/// Which names.
pub(super) enum Names {
    /// This one; none where the Corefile's text is no name.
    Exact(Option<NameBuf>),
    /// Those below this one: a suffix that begins with a dot.
    Below(NameBuf),
    /// Those whose text begins so.
    Prefix(Box<str>),
    /// Those whose text ends so.
    Suffix(Box<str>),
    /// Those whose text has this in it.
    Substring(Box<str>),
    /// Those that the worker's expression of this number matches.
    Regex(usize),
}

impl Names {
    pub(super) fn have(&self, subject: &mut Subject<'_>, patterns: &mut Patterns) -> bool {
        match self {
            Self::Exact(name) => name.as_ref().is_some_and(|name| subject.name == *name),
            Self::Below(zone) => is_below(subject.name(), zone.as_name()),
            Self::Prefix(text) => subject.text().0.starts_with(&**text),
            Self::Suffix(text) => subject.text().0.ends_with(&**text),
            Self::Substring(text) => subject.text().0.contains(&**text),
            Self::Regex(pattern) => patterns[*pattern].0.is_match(subject.text().0),
        }
    }
}

fn is_below(name: Name<'_>, zone: Name<'_>) -> bool {
    name.strip(zone).is_some_and(|prefix| !prefix.is_empty())
}

/// What is put in the place of what was found.
pub(super) enum Replacement {
    /// A name, of `Exact` and `Below`; none where the Corefile's text is no name.
    Name(Option<Box<NameBuf>>),
    /// A text.
    Text(Box<str>),
    /// Texts and groups of the expression.
    Parts(Box<[Part]>),
}

/// A part of what stands for a name that an expression matched.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(Box<str>),
    Group(usize),
}

impl Part {
    /// Reads `{1}.b.{2}`; a number that is no group's is text.
    pub(super) fn parse(text: &str, groups: usize) -> Box<[Part]> {
        let mut parts = Vec::new();
        let (mut start, mut at) = (0, 0);
        while let Some(open) = text[at..].find('{').map(|open| at + open) {
            let number = text[open + 1..].split_once('}').map(|(number, _)| number);
            let group = number.filter(|number| is_number(number)).and_then(|n| n.parse().ok());
            let Some((number, group)) = number.zip(group.filter(|group| *group < groups)) else {
                at = open + 1;
                continue;
            };
            if start < open {
                parts.push(Part::Text(text[start..open].into()));
            }
            parts.push(Part::Group(group));
            at = open + number.len() + 2;
            start = at;
        }
        if start < text.len() {
            parts.push(Part::Text(text[start..].into()));
        }
        parts.into()
    }
}

/// A number as Go prints it.
fn is_number(text: &str) -> bool {
    text.bytes().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
}

/// Names, and what becomes of them.
pub(super) struct Change {
    pub(super) from: Names,
    pub(super) to: Replacement,
}

/// What has become of a name.
#[allow(clippy::large_enum_variant, reason = "it is looked at where it is made")]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// The change is not for it.
    Not,
    To(NameBuf),
    /// What was made is no name.
    Illegal,
}

impl Change {
    pub(super) fn apply(&self, subject: &mut Subject<'_>, patterns: &mut Patterns) -> Changed {
        match (&self.from, &self.to) {
            (Names::Exact(_), Replacement::Name(to)) => {
                match (self.from.have(subject, patterns), to) {
                    (false, _) => Changed::Not,
                    (true, Some(name)) => Changed::To(**name),
                    (true, None) => Changed::Illegal,
                }
            }
            (Names::Below(zone), Replacement::Name(Some(to))) => {
                match subject.name().strip(zone.as_name()) {
                    None | Some([]) => Changed::Not,
                    Some(prefix) => {
                        NameBuf::join(prefix, to.as_name()).map_or(Changed::Illegal, Changed::To)
                    }
                }
            }
            _ => self.apply_to_text(subject, patterns),
        }
    }

    fn apply_to_text(&self, subject: &mut Subject<'_>, patterns: &mut Patterns) -> Changed {
        let (text, made) = subject.text();
        let mut out = TextBuf::new(made);
        let written = match (&self.from, &self.to) {
            (Names::Prefix(from), Replacement::Text(to)) => match text.strip_prefix(&**from) {
                Some(rest) => write!(out, "{to}{rest}"),
                None => return Changed::Not,
            },
            (Names::Suffix(from), Replacement::Text(to)) => match text.strip_suffix(&**from) {
                Some(rest) => write!(out, "{rest}{to}"),
                None => return Changed::Not,
            },
            (Names::Substring(from), Replacement::Text(to)) => {
                let mut parts = text.split(&**from);
                let first = parts.next().unwrap_or_default();
                if first.len() == text.len() {
                    return Changed::Not;
                }
                out.write_str(first).and_then(|()| {
                    let mut rest = parts;
                    rest.try_for_each(|part| out.write_str(to).and_then(|()| out.write_str(part)))
                })
            }
            (Names::Regex(pattern), Replacement::Parts(parts)) => {
                let (regex, groups) = &mut patterns[*pattern];
                if regex.captures_read(groups, text).is_none() {
                    return Changed::Not;
                }
                parts.iter().try_for_each(|part| match part {
                    Part::Text(text) => out.write_str(text),
                    Part::Group(group) => {
                        let (start, end) = groups.get(*group).unwrap_or_default();
                        out.write_str(&text[start..end])
                    }
                })
            }
            _ => return Changed::Not,
        };
        // What does not fit is longer than any name.
        let made = std::str::from_utf8(out.as_bytes()).ok().filter(|_| written.is_ok());
        let name = made.and_then(|made| NameBuf::parse(made).ok());
        name.map_or(Changed::Illegal, Changed::To)
    }
}
