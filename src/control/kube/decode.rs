//! JSON of the API server as it arrives: the objects of a list one at a time, the events of a watch
//! line by line.
//!
//! Guarantees: at most one object is held, and none beyond `KUBE_OBJECT_BYTES_MAX`; an object that
//! lies whole in what was received is not copied. What is no JSON ends the list or skips the event;
//! nothing is trusted. Costs: one pass that only looks for quotes and brackets, then one by serde
//! over each object (RFC 8259).

use std::fmt;

use serde::Deserialize;

use crate::limits::{KUBE_ENVELOPE_BYTES_MAX, KUBE_OBJECT_BYTES_MAX};

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// An object over `KUBE_OBJECT_BYTES_MAX`, or an envelope over its own bound.
    TooLong,
    /// Not the JSON of a list, or not the whole of it.
    NoList,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "an object that is too long",
            Self::NoList => "not a whole list",
        })
    }
}

/// Where in JSON a pass stands: inside a string or not, and how deep.
#[derive(Clone, Copy, Debug, Default)]
struct Depth {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Depth {
    /// Passes over one octet; whether it was outside of strings.
    fn step(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        byte != b'"'
    }
}

/// What a list says beside its objects.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Envelope {
    /// Of the whole list: `resourceVersion`, and `continue` where it goes on.
    #[serde(default)]
    pub metadata: ListMeta,
    #[serde(default)]
    kind: String,
}

/// `metadata` of a list.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ListMeta {
    /// The state of the cluster that the list shows.
    #[serde(default)]
    pub resource_version: String,
    /// How to ask for the next page; empty after the last.
    #[serde(default, rename = "continue")]
    pub next: String,
}

/// The body of a list: gives its objects while it arrives.
#[derive(Default)]
pub struct List {
    at: Depth,
    in_items: bool,
    /// The beginning of an object whose end has not arrived.
    partial: Vec<u8>,
    in_object: bool,
    /// Everything but the objects.
    envelope: Vec<u8>,
}

impl List {
    /// Takes the next octets, and gives each object that is whole.
    ///
    /// # Errors
    /// A bound was passed: the body is not worth reading on.
    pub fn feed(&mut self, chunk: &[u8], mut object: impl FnMut(&[u8])) -> Result<(), Malformed> {
        let mut start = 0;
        for (index, &byte) in chunk.iter().enumerate() {
            let outside = self.at.step(byte);
            if !self.in_items {
                self.envelope.push(byte);
                if outside && byte == b'[' && self.at.depth == 2 && self.opens_items() {
                    self.in_items = true;
                }
                if self.envelope.len() > KUBE_ENVELOPE_BYTES_MAX {
                    return Err(Malformed::TooLong);
                }
                continue;
            }
            match byte {
                b'{' if outside && self.at.depth == 3 => (self.in_object, start) = (true, index),
                b'}' if outside && self.at.depth == 2 && self.in_object => {
                    let rest = &chunk[start..=index];
                    if self.partial.is_empty() {
                        object(rest);
                    } else {
                        self.partial.extend_from_slice(rest);
                        object(&self.partial);
                        self.partial.clear();
                    }
                    self.in_object = false;
                }
                b']' if outside && self.at.depth == 1 => {
                    self.envelope.push(byte);
                    self.in_items = false;
                }
                _ => {}
            }
        }
        if self.in_object {
            self.partial.extend_from_slice(&chunk[start..]);
            if self.partial.len() > KUBE_OBJECT_BYTES_MAX {
                return Err(Malformed::TooLong);
            }
        }
        Ok(())
    }

    /// Whether what came last is `"items":[` of the outermost object.
    fn opens_items(&self) -> bool {
        let before = self.envelope[..self.envelope.len() - 1].trim_ascii_end();
        let key = before.strip_suffix(b":").map(<[u8]>::trim_ascii_end);
        key.is_some_and(|key| key.ends_with(b"\"items\""))
    }

    /// What the list says beside its objects, once its body is over.
    ///
    /// # Errors
    /// It was cut short, or was no list.
    pub fn finish(self) -> Result<Envelope, Malformed> {
        let read: Result<Envelope, _> = serde_json::from_slice(&self.envelope);
        match read {
            Ok(envelope) if envelope.kind.ends_with("List") => Ok(envelope),
            _ => Err(Malformed::NoList),
        }
    }
}

/// The body of a watch: gives its lines while they arrive.
#[derive(Default)]
pub struct Lines {
    partial: Vec<u8>,
    /// The rest of a line that was too long is passed over.
    skipping: bool,
}

impl Lines {
    /// Takes the next octets, and gives each line that is whole; one that is too long is given as
    /// an error, once.
    pub fn feed(&mut self, chunk: &[u8], mut line: impl FnMut(Result<&[u8], Malformed>)) {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = (&rest[..end], &rest[end + 1..]);
            rest = tail;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.partial.is_empty() {
                if !head.trim_ascii().is_empty() {
                    line(Ok(head));
                }
            } else {
                self.partial.extend_from_slice(head);
                line(Ok(&self.partial));
                self.partial.clear();
            }
        }
        if !self.skipping {
            self.partial.extend_from_slice(rest);
            if self.partial.len() > KUBE_OBJECT_BYTES_MAX {
                self.partial = Vec::new();
                self.skipping = true;
                line(Err(Malformed::TooLong));
            }
        }
    }
}

/// A line of a watch: what has happened, and the object's JSON.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub kind: &'a str,
    /// The object, not looked into.
    pub object: &'a [u8],
}

/// Reads a line's two members without looking into the object.
pub fn event(line: &[u8]) -> Option<Event<'_>> {
    let mut kind = None;
    let mut object = None;
    let mut rest = line.trim_ascii().strip_prefix(b"{")?;
    loop {
        rest = rest.trim_ascii_start();
        let (key, after) = string(rest)?;
        rest = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        let end = value_end(rest)?;
        let (value, after) = rest.split_at(end);
        match key {
            b"type" => kind = Some(std::str::from_utf8(string(value)?.0).ok()?),
            b"object" => object = Some(value),
            _ => {}
        }
        rest = after.trim_ascii_start();
        match rest.split_first()? {
            (b',', after) => rest = after,
            (b'}', []) => break,
            _ => return None,
        }
    }
    Some(Event { kind: kind?, object: object? })
}

/// A string without escapes at the beginning, and what follows it.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let end = text.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    (text[end] == b'"').then(|| (&text[..end], &text[end + 1..]))
}

/// Where the value at the beginning ends.
fn value_end(text: &[u8]) -> Option<usize> {
    let mut at = Depth::default();
    for (index, &byte) in text.iter().enumerate() {
        if !at.in_string && at.depth == 0 && matches!(byte, b',' | b'}') {
            return Some(text[..index].trim_ascii_end().len());
        }
        at.step(byte);
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The objects and the envelope of a body that arrives in pieces of so many octets.
    fn read(body: &[u8], piece: usize) -> (Vec<String>, Result<Envelope, Malformed>) {
        let mut list = List::default();
        let mut objects = Vec::new();
        for chunk in body.chunks(piece.max(1)) {
            let object = |object: &[u8]| objects.push(String::from_utf8(object.into()).unwrap());
            if let Err(error) = list.feed(chunk, object) {
                return (objects, Err(error));
            }
        }
        (objects, list.finish())
    }

    const BODY: &str = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"17",
        "continue":"abc=","other":{"items":[1]}}, "items" : [
        {"a":"]}\"{["} ,{"b":[{"c":1},[]]},{}], "after":[{}]}"#;

    #[test]
    fn gives_objects_whatever_the_pieces() {
        let meta = ListMeta { resource_version: "17".into(), next: "abc=".into() };
        for piece in 1..BODY.len() + 1 {
            let (objects, envelope) = read(BODY.as_bytes(), piece);
            assert_eq!(objects, [r#"{"a":"]}\"{["}"#, r#"{"b":[{"c":1},[]]}"#, "{}"], "{piece}");
            assert_eq!(envelope.expect("a list").metadata, meta);
        }
    }

    #[test]
    fn a_list_without_objects_is_a_list() {
        for body in [r#"{"kind":"PodList","items":null}"#, r#"{"kind":"PodList","items":[]}"#] {
            let (objects, envelope) = read(body.as_bytes(), 5);
            assert!(objects.is_empty());
            assert_eq!(envelope.expect(body).metadata, ListMeta::default());
        }
    }

    #[test]
    fn what_is_cut_short_or_no_list_is_an_error() {
        for end in 0..BODY.len() {
            assert_eq!(read(&BODY.as_bytes()[..end], 7).1, Err(Malformed::NoList), "{end}");
        }
        for body in ["", "[]", "[[{}]]", r#"{"kind":"Status","items":[]}"#, "}}}}", "ok"] {
            assert_eq!(read(body.as_bytes(), 3).1, Err(Malformed::NoList), "{body}");
        }
    }

    #[test]
    fn bounds_hold() {
        let mut list = List::default();
        let begin = br#"{"kind":"PodList","items":[{"a":""#;
        assert_eq!(list.feed(begin, |_| {}), Ok(()));
        let mebibyte = vec![b'a'; 1 << 20];
        let mut feed = || list.feed(&mebibyte, |_| panic!("no object"));
        let fed = (0..100).take_while(|_| feed() == Ok(())).count();
        assert_eq!(fed, (KUBE_OBJECT_BYTES_MAX >> 20) - 1);
        let mut list = List::default();
        assert_eq!(list.feed(&mebibyte, |_| {}), Err(Malformed::TooLong));
    }

    #[test]
    fn splits_lines_and_passes_over_those_that_are_too_long() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        let mut feed = |chunk: &[u8]| {
            lines.feed(chunk, |line| {
                seen.push(line.map(|line| String::from_utf8(line.into()).unwrap()));
            });
        };
        feed(b"one\ntw");
        feed(b"o\n\n\nthree");
        feed(b"\n");
        feed(&vec![b'x'; KUBE_OBJECT_BYTES_MAX + 1]);
        feed(b"still the same line\nfour\nfi");
        let ok = |text: &str| Ok(text.to_owned());
        let long = Err(Malformed::TooLong);
        assert_eq!(seen, [ok("one"), ok("two"), ok("three"), long, ok("four")]);
    }

    #[test]
    fn reads_events() {
        let line = br#" {"type":"ADDED", "object" : {"kind":"Pod","x":"}\"{,"} }"#;
        let object = &br#"{"kind":"Pod","x":"}\"{,"}"#[..];
        assert_eq!(event(line), Some(Event { kind: "ADDED", object }));
        let turned = br#"{"object":{},"more":[1,2],"type":"BOOKMARK"}"#;
        assert_eq!(event(turned), Some(Event { kind: "BOOKMARK", object: b"{}" }));
        for bad in [
            "this is not json",
            r#"{"type":"ADDED","object":{"kind":"#,
            r#"{"type":"ADDED"}"#,
            r#"{"type":5,"object":{}}"#,
            r#"{"type":"ADDED","object":{}}}"#,
            "{}",
            "",
        ] {
            assert_eq!(event(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(body in prop::collection::vec(
            prop::sample::select(b"{}[]\",:\\ items1kind".to_vec()), 0..200), piece in 1usize..9) {
            let _ = read(&body, piece);
            let _ = event(&body);
            let mut lines = Lines::default();
            body.chunks(piece).for_each(|chunk| lines.feed(chunk, |_| {}));
        }
    }
}
