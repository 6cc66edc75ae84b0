//! What templates see of a query: everything is borrowed, text that must be made was made before.

use std::fmt::Write as _;

use regex::CaptureLocations;

use super::Pattern;
use crate::expression::{Memory, Program, Value as Computed};
use crate::gotemplate::{Fields, Full, List, Map, Method, Slice, TextBuf, Value};
use crate::plugin::{Asked as Query, Cx};
use crate::snapshot::MetaRef;
use crate::wire::{Flags, opcode, rclass, rcode, rtype};

/// The dot of a template.
pub(super) struct Data<'q> {
    /// The zone that fits, as text.
    pub(super) zone: &'q str,
    /// The name in lower case, which was matched.
    pub(super) name: &'q str,
    /// The class and the type that the template is told: the block's where ANY is asked for.
    pub(super) class: u16,
    pub(super) rtype: u16,
    pub(super) groups: Groups<'q>,
    pub(super) asked: Asked<'q>,
    pub(super) message: Message<'q>,
    pub(super) remote: &'q str,
    pub(super) variables: Variables<'q>,
    pub(super) meta: Meta<'q>,
}

/// `.Match` and `.Group`: the groups of the match in the name.
pub(super) struct Groups<'q> {
    pub(super) name: &'q str,
    pub(super) pattern: &'q Pattern,
    pub(super) places: &'q CaptureLocations,
}

/// `.Question`.
#[derive(Clone, Copy)]
pub(super) struct Asked<'q> {
    /// The name as it was written.
    pub(super) name: &'q str,
    pub(super) rtype: u16,
    pub(super) rclass: u16,
}

/// `.Message`: the header, and the question as a list.
pub(super) struct Message<'q> {
    id: u16,
    flags: Flags,
    questions: Questions<'q>,
}

/// The one question of a message.
struct Questions<'q>(Asked<'q>);

/// `.Meta`: reads metadata labels, of those that stand in templates.
pub(super) struct Meta<'q> {
    pub(super) cx: &'q Cx<'q>,
    pub(super) labels: &'q [(Box<str>, MetaRef)],
}

/// `.Var`: the variables of the block. As a list, all values that expressions have made: variables
/// that are lists are parts of it.
pub(super) struct Variables<'q> {
    pub(super) program: &'q Program,
    pub(super) memory: &'q Memory,
}

impl Variables<'_> {
    fn shown(&self, value: Computed) -> Value<'_> {
        match value {
            Computed::Nil | Computed::Map(_) => Value::Nil,
            Computed::Bool(value) => Value::Bool(value),
            Computed::Int(value) => Value::Int(value),
            Computed::Float(value) => Value::Float(value),
            Computed::Text(place) => Value::text(self.memory.text(place)),
            Computed::List(place) => {
                let range = place.range();
                Value::List(Slice::part(self, range.start, range.end))
            }
        }
    }
}

/// A registered name, as miekg/dns has it: nothing where there is none.
pub(super) fn class_name(class: u16) -> &'static str {
    rclass::name(class).unwrap_or_default()
}

/// See [`class_name`].
pub(super) fn type_name(kind: u16) -> &'static str {
    rtype::name(kind).unwrap_or_default()
}

impl Fields for Data<'_> {
    fn type_name(&self) -> &'static str {
        "*template.templateData"
    }

    fn field(&self, name: &str) -> Option<Value<'_>> {
        Some(match name {
            "Zone" => Value::text(self.zone),
            "Name" => Value::text(self.name),
            "Regex" => Value::text(&self.groups.pattern.text),
            "Match" => Value::list(&self.groups),
            "Group" => Value::Map(&self.groups),
            "Class" => Value::text(class_name(self.class)),
            "Type" => Value::text(type_name(self.rtype)),
            "Message" => Value::Object(&self.message),
            "Question" => Value::Object(&self.asked),
            "Remote" => Value::text(self.remote),
            "Var" => Value::Map(&self.variables),
            "Meta" => Value::Method(&self.meta),
            _ => return None,
        })
    }

    fn print(&self, out: &mut TextBuf<'_>) -> Result<(), Full> {
        let (zone, name) = (self.zone, self.name);
        let (class, kind) = (class_name(self.class), type_name(self.rtype));
        Ok(write!(out, "&{{{zone} {name} {class} {kind}}}")?)
    }
}

impl<'q> Message<'q> {
    pub(super) fn new(rest: &Query, question: Asked<'q>) -> Self {
        Self { id: rest.id, flags: rest.flags, questions: Questions(question) }
    }
}

impl<'q> Groups<'q> {
    fn part(&self, at: usize) -> &'q str {
        let text = self.places.get(at).and_then(|(from, to)| self.name.get(from..to));
        text.unwrap_or_default()
    }

    /// The text of the group of this name or number; empty if there is none.
    pub(super) fn text(&self, name: &str) -> &'q str {
        let groups = &self.pattern.groups;
        let found = groups.binary_search_by(|(known, _)| (**known).cmp(name));
        found.map_or("", |at| self.part(groups[at].1))
    }

    /// A group's text, empty where it took no part in the match.
    fn group(&self, at: usize) -> Value<'_> {
        Value::text(self.part(at))
    }
}

impl List for Groups<'_> {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn get(&self, at: usize) -> Value<'_> {
        self.group(at)
    }
}

impl Map for Groups<'_> {
    fn len(&self) -> usize {
        self.pattern.groups.len()
    }

    fn entry(&self, at: usize) -> (&[u8], Value<'_>) {
        let (key, group) = &self.pattern.groups[at];
        (key.as_bytes(), self.group(*group))
    }

    fn get(&self, key: &[u8]) -> Option<Value<'_>> {
        let groups = &self.pattern.groups;
        let at = groups.binary_search_by(|(known, _)| known.as_bytes().cmp(key)).ok()?;
        Some(self.group(groups[at].1))
    }
}

impl Fields for Asked<'_> {
    fn type_name(&self) -> &'static str {
        "*dns.Question"
    }

    fn field(&self, name: &str) -> Option<Value<'_>> {
        match name {
            "Name" => Some(Value::text(self.name)),
            "Qtype" => Some(Value::Uint(self.rtype.into())),
            "Qclass" => Some(Value::Uint(self.rclass.into())),
            _ => None,
        }
    }

    fn print(&self, out: &mut TextBuf<'_>) -> Result<(), Full> {
        let (class, kind) = (rclass::text(self.rclass), rtype::text(self.rtype));
        Ok(write!(out, ";{}\t{class}\t {kind}", self.name)?)
    }
}

impl Fields for Message<'_> {
    fn type_name(&self) -> &'static str {
        "*dns.Msg"
    }

    fn field(&self, name: &str) -> Option<Value<'_>> {
        let flags = self.flags;
        Some(match name {
            "Id" => Value::Uint(self.id.into()),
            "Response" => Value::Bool(flags.qr()),
            "Opcode" => Value::Int(flags.opcode().into()),
            "Authoritative" => Value::Bool(flags.aa()),
            "Truncated" => Value::Bool(flags.tc()),
            "RecursionDesired" => Value::Bool(flags.rd()),
            "RecursionAvailable" => Value::Bool(flags.ra()),
            "AuthenticatedData" => Value::Bool(flags.ad()),
            "CheckingDisabled" => Value::Bool(flags.cd()),
            "Rcode" => Value::Int(flags.rcode_low().into()),
            "Question" => Value::list(&self.questions),
            _ => return None,
        })
    }

    fn print(&self, out: &mut TextBuf<'_>) -> Result<(), Full> {
        let (operation, code) =
            (opcode::text(self.flags.opcode()), rcode::text(self.flags.rcode_low().into()));
        Ok(write!(out, ";; opcode: {operation}, status: {code}, id: {}", self.id)?)
    }
}

impl List for Questions<'_> {
    fn type_name(&self) -> &'static str {
        "[]dns.Question"
    }

    fn len(&self) -> usize {
        1
    }

    fn get(&self, _at: usize) -> Value<'_> {
        Value::Object(&self.0)
    }
}

impl Method for Meta<'_> {
    fn call(&self, argument: &[u8], out: &mut TextBuf<'_>) -> Result<(), Full> {
        let known = self.labels.iter().find(|(label, _)| label.as_bytes() == argument);
        if let Some((_, label)) = known {
            self.cx.meta(*label, out);
        }
        Ok(())
    }
}

impl List for Variables<'_> {
    fn type_name(&self) -> &'static str {
        "[]interface {}"
    }

    fn len(&self) -> usize {
        self.memory.all().len()
    }

    fn get(&self, at: usize) -> Value<'_> {
        self.memory.all().get(at).map_or(Value::Nil, |value| self.shown(*value))
    }
}

impl Map for Variables<'_> {
    fn type_name(&self) -> &'static str {
        "map[string]interface {}"
    }

    fn len(&self) -> usize {
        self.program.names().len()
    }

    fn entry(&self, at: usize) -> (&[u8], Value<'_>) {
        let sorted = self.program.sorted(at);
        (self.program.names()[sorted].as_bytes(), self.shown(self.memory.variable(sorted)))
    }

    fn get(&self, key: &[u8]) -> Option<Value<'_>> {
        Some(self.shown(self.memory.variable(self.program.variable(key)?)))
    }

    fn zero(&self) -> Value<'_> {
        Value::Nil
    }
}
