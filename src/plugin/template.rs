//! # template
//!
//! Answers with records made from the question by Go templates.
//!
//! ## Syntax
//!
//! ```text
//! template CLASS TYPE [ZONES...] {
//!     match REGEX...
//!     answer RECORD...
//!     var NAME EXPRESSION
//!     expr EXPRESSION
//!     additional RECORD...
//!     authority RECORD...
//!     rcode CODE
//!     ederror CODE [TEXT]
//!     fallthrough [ZONES...]
//! }
//! ```
//!
//! * **CLASS**, **TYPE**: what is asked for, in capitals: `IN`, `A`. `ANY` is all. A question for
//!   class or type ANY fits every block.
//! * **ZONES**: names that the block is for, by default the server block's. CIDRs are reverse zones.
//! * `match`: Go regular expressions of at most 10,000 octets, matched against the whole name in
//!   lower case with its final dot. The first that matches counts; without any, every name does.
//! * `answer`, `authority`, `additional`: each argument is a template of one record in the form of a
//!   zone file. TTL (3600) and class (IN) may be left out; names without a final dot are below the root.
//! * `var`: a variable for the templates (`.Var.NAME`) and for the expressions after it. One that
//!   cannot be computed is SERVFAIL.
//! * `expr`: a condition. A match counts only where all of them are `true`; a condition that cannot be
//!   computed is SERVFAIL.
//! * `rcode`: the reply's rcode, by default NOERROR. SERVFAIL is answered without any records.
//! * `ederror`: an extended error (RFC 8914) for clients with EDNS.
//! * `fallthrough`: where the zone fits and nothing matches, go on (for names in ZONES only)
//!   with the next block, then with the next plugin. Without it that is SERVFAIL.
//! * `upstream`: accepted, means nothing.
//!
//! Blocks are tried in order. One whose zones, class or type do not fit is passed over. The reply is
//! authoritative. Where an answer to a question for A or AAAA is a CNAME, its target is asked of the
//! server as a client would ask, and the answers are added.
//!
//! Expressions are those of the plugin *view*, with `group(NAME)` besides, which gives a group of the
//! match by its name or number: `var n int(group('n'))`. All variables are computed first.
//!
//! ## Templates
//!
//! Go's `text/template` with the data below and the function `parseInt TEXT BASE BITS`. `{{$x}}` in a
//! Corefile is an environment variable: write `{{ $x }}`.
//!
//! | field | what |
//! |---|---|
//! | `.Name` | the name asked for, in lower case |
//! | `.Zone` | the zone that fits |
//! | `.Class`, `.Type` | what is asked for; the block's where that is ANY |
//! | `.Match` | the match and its groups: `{{ index .Match 1 }}` |
//! | `.Group` | groups by name and by number: `{{ .Group.a }}`, `{{ index .Group "1" }}` |
//! | `.Regex` | the expression that matched |
//! | `.Question` | `Name` (as it was written), `Qtype`, `Qclass` |
//! | `.Message` | `Id`, `Opcode`, `Rcode`, `Response`, `Authoritative`, `Truncated`, `RecursionDesired`, `RecursionAvailable`, `AuthenticatedData`, `CheckingDisabled`, `Question` |
//! | `.Var` | variables: `{{ .Var.n }}` |
//! | `.Remote` | the client's address |
//! | `.Meta "plugin/label"` | a metadata label, empty without the plugin *metadata* |
//!
//! ## Examples
//!
//! ```corefile
//! example.org {
//!     template IN A {
//!         match "^ip-(?P<a>[0-9]+)-(?P<b>[0-9]+)-(?P<c>[0-9]+)-(?P<d>[0-9]+)[.]example[.]org[.]$"
//!         answer "{{ .Name }} 60 IN A {{ .Group.a }}.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}"
//!         fallthrough
//!     }
//!     whoami
//! }
//! ```
//!
//! ```corefile
//! . {
//!     template ANY ANY invalid {
//!         rcode NXDOMAIN
//!         authority "invalid. 60 {{ .Class }} SOA ns.invalid. hostmaster.invalid. (1 60 60 60 60)"
//!         ederror 21 "Blocked according to RFC2606"
//!     }
//!     whoami
//! }
//! ```
//!
//! ## Metrics
//!
//! * `coredns_template_matches_total{server, zone, view, class, type}`
//! * `coredns_template_template_failures_total{server, zone, view, class, type, section, template}`:
//!   templates that failed
//! * `coredns_template_rr_failures_total{server, zone, view, class, type, section, template}`:
//!   templates whose text is no record
//!
//! ## Differences from CoreDNS
//!
//! A variable that is a map cannot be shown. A template that gives no text at all is SERVFAIL
//! and counted as no record (there a panic). A label that `.Meta` is to read must stand in the
//! template as a string. `.Message` has no sections but the question. `$INCLUDE` and `$GENERATE` are
//! no records. CNAMEs are followed ten deep (there without end). An extended error is for clients
//! with EDNS only, and does not set DO (RFC 6891 section 6.1.1, RFC 3225 section 3).
//!
//! Cost: the templates and the texts in between do not allocate; reading a record from its text may.

mod counters;
mod data;
mod record;

use std::fmt::{self, Write as _};

use regex::{CaptureLocations, Regex};

use super::conditions::{Labels, OF_A_MATCH, Query, add_labels};
use super::{Compiled, CorefileError, Cx, Directive, Entry, Lines, Plugin, SetupError, Site, Step};
use crate::control::corefile::{Fallthrough, OptionLine, Stanza, Token};
use crate::expression::{self, Memory, Program};
use crate::gotemplate::TextBuf;
use crate::limits::{
    ADDRESS_TEXT_BYTES_MAX, ASK_DEPTH_MAX, NAME_TEXT_BYTES_MAX, REGEXP_BYTES_MAX,
    TEMPLATE_RECORD_BYTES_MAX,
};
use crate::regexp;
use crate::wire::{
    Draft, Name, Question, Rclass, Rcode, Rdata, Rtype, Section, Suffixes, edns, rclass, rcode,
    rtype,
};
use crate::zone::RecordHead;
use counters::Counters;
use data::{Asked, Data, Groups, Message, Meta, Variables};
use record::{Record, Scratch, Unmade};

/// The directive: its blocks in the order of the Corefile.
pub struct Template {
    blocks: Vec<Block>,
}

/// The link.
pub struct Templates {
    /// Zones of all blocks.
    zones: Suffixes<()>,
    blocks: Vec<Block>,
    /// For each block.
    counters: Vec<Counters>,
    /// Metadata labels that some template names.
    labels: Labels,
}

/// One `template` of the Corefile.
struct Block {
    /// Its zones, each with the place of its text.
    zones: Suffixes<usize>,
    zone_texts: Vec<Box<str>>,
    rclass: Rclass,
    rtype: Rtype,
    /// At least one.
    patterns: Vec<Pattern>,
    /// Its variables and conditions.
    program: Program,
    /// In the order of sections.
    records: Vec<Record>,
    rcode: Rcode,
    /// Data of the EDE option (RFC 8914 section 2).
    extended: Option<Box<[u8]>>,
    fallthrough: Fallthrough,
}

/// The class and the type that a template is told of.
struct Effective {
    class: Rclass,
    rtype: Rtype,
}

/// A regular expression and the keys of `.Group`.
struct Pattern {
    /// As the Corefile has it.
    text: Box<str>,
    regex: Regex,
    /// Names and numbers of its groups, sorted, each with its group.
    groups: Vec<(Box<str>, usize)>,
}

/// What a worker needs while it serves.
pub struct Local {
    /// Expressions of its own for each block and pattern, so that no two workers share a cache.
    patterns: Vec<Vec<(Regex, CaptureLocations)>>,
    texts: Box<Texts>,
    /// What expressions compute with: holds the variables of the block that was hit.
    memory: Memory,
    scratch: Scratch,
}

/// Presentation forms of the query that is served, and a record's text.
struct Texts {
    name: [u8; NAME_TEXT_BYTES_MAX],
    asked: [u8; NAME_TEXT_BYTES_MAX],
    remote: [u8; ADDRESS_TEXT_BYTES_MAX],
    record: [u8; TEMPLATE_RECORD_BYTES_MAX],
}

/// Where a query stands that waits for a CNAME's target.
#[derive(Clone, Copy)]
pub struct Frame {
    hit: Hit,
    /// The next record to make.
    next: u16,
}

/// The block and the pattern that fit a query.
#[derive(Clone, Copy)]
struct Hit {
    block: u16,
    pattern: u16,
}

/// What a block says of a query.
enum Verdict {
    Hit(u16),
    /// Not for this block, or handed on by `fallthrough`.
    Next,
    /// No match, and no `fallthrough`.
    Stop,
}

const OPTIONS: &[&str] = &[
    "match",
    "answer",
    "additional",
    "authority",
    "var",
    "expr",
    "rcode",
    "ederror",
    "fallthrough",
    "upstream",
];

impl Directive for Template {
    const NAME: &'static str = "template";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let blocks = lines.stanzas().iter().map(|stanza| Block::parse(lines, stanza));
        Ok(Self { blocks: blocks.collect::<Result<_, _>>()? })
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let zones = self.blocks.iter().flat_map(|block| block.zones.iter());
        let zones = Suffixes::new(zones.map(|(zone, _)| (zone.into(), ())));
        let mut labels = Labels::new();
        for block in &self.blocks {
            add_labels(&mut labels, site, block.program.literals());
            for record in &block.records {
                add_labels(&mut labels, site, record.strings());
            }
        }
        let counters = self.blocks.iter().map(|block| Counters::new(site, block)).collect();
        Ok(Compiled::link(Templates { zones, blocks: self.blocks, counters, labels }))
    }
}

impl Block {
    fn parse(lines: &Lines<'_>, stanza: &Stanza) -> Result<Self, CorefileError> {
        let [class, kind, zones @ ..] = &stanza.args[..] else {
            return Err(lines.arg_err(stanza.args.last().unwrap_or(&stanza.name)));
        };
        let rclass = exact(&class.text, rclass::parse, rclass::name)
            .ok_or_else(|| lines.parse_err(class, format!("invalid query class {}", class.text)))?;
        let rtype = exact(&kind.text, rtype::parse, rtype::name)
            .ok_or_else(|| lines.parse_err(kind, format!("invalid RR class {}", kind.text)))?;
        let zones = lines.zones_of(zones);
        let mut block = Self {
            zone_texts: zones.iter().map(|zone| zone.to_string().into()).collect(),
            zones: Suffixes::new(zones.into_iter().zip(0..)),
            rclass,
            rtype,
            patterns: Vec::new(),
            program: Program::default(),
            records: Vec::new(),
            rcode: rcode::NOERROR,
            extended: None,
            fallthrough: Fallthrough::OFF,
        };
        let mut draft = expression::Draft::new(OF_A_MATCH);
        for option in &stanza.options {
            match option.name.text.as_str() {
                "var" | "expr" => read_expression(&mut draft, lines, option)?,
                _ => block.option(lines, option)?,
            }
        }
        block.program = draft.finish();
        if block.patterns.is_empty() {
            block.patterns.extend(Pattern::new(".*"));
        }
        block.records.sort_by_key(|record| record.section);
        Ok(block)
    }

    fn option(&mut self, lines: &Lines<'_>, option: &OptionLine) -> Result<(), CorefileError> {
        match option.name.text.as_str() {
            "match" => {
                for token in lines.some_args(option)? {
                    let pattern = Pattern::new(&token.text).map_err(|why| {
                        let text = &token.text;
                        lines.parse_err(
                            token,
                            match text.len() > REGEXP_BYTES_MAX {
                                true => why,
                                false => format!("could not parse regex: {text}, {why}"),
                            },
                        )
                    })?;
                    self.patterns.push(pattern);
                }
            }
            "answer" => self.add_records(lines, option, Section::Answer)?,
            "authority" => self.add_records(lines, option, Section::Authority)?,
            "additional" => self.add_records(lines, option, Section::Additional)?,
            "rcode" => {
                let token = lines.one_arg(option)?;
                self.rcode = parse_rcode(&token.text).ok_or_else(|| {
                    lines.parse_err(token, format!("unknown rcode {}", token.text))
                })?;
            }
            "ederror" => self.extended = Some(parse_extended(lines, option)?),
            "fallthrough" => self.fallthrough = lines.fallthrough(option),
            "upstream" => {}
            word => return Err(lines.arg_err(&option.name).suggesting(word, OPTIONS)),
        }
        Ok(())
    }

    fn add_records(
        &mut self,
        lines: &Lines<'_>,
        option: &OptionLine,
        section: Section,
    ) -> Result<(), CorefileError> {
        for token in lines.some_args(option)? {
            let record = Record::new(section, &option.name.text, &token.text).map_err(|why| {
                let why = format!("could not compile template: {}, {why}", token.text);
                lines.parse_err(token, why)
            })?;
            self.records.push(record);
        }
        Ok(())
    }

    /// The zone that fits: its number and its text.
    fn zone(&self, question: Question<'_>) -> Option<(usize, &str)> {
        self.zones.find(question.lower).map(|(_, number)| (*number, &*self.zone_texts[*number]))
    }

    /// The question's class and type; the block's own where ANY is asked for.
    fn effective(&self, question: Question<'_>) -> Effective {
        let or_ours = |asked: u16, any: u16, ours: u16| if asked == any { ours } else { asked };
        Effective {
            class: or_ours(question.rclass, rclass::ANY, self.rclass),
            rtype: or_ours(question.rtype, rtype::ANY, self.rtype),
        }
    }

    /// Whether it is for this question; a hit leaves the places of the groups in `patterns`.
    fn judge(
        &self,
        question: Question<'_>,
        name: &str,
        patterns: &mut [(Regex, CaptureLocations)],
    ) -> Verdict {
        let fits = |ours: u16, asked: u16, any: u16| ours == any || asked == any || ours == asked;
        if self.zone(question).is_none()
            || !fits(self.rclass, question.rclass, rclass::ANY)
            || !fits(self.rtype, question.rtype, rtype::ANY)
        {
            return Verdict::Next;
        }
        let hit = patterns
            .iter_mut()
            .position(|(regex, places)| regex.captures_read(places, name).is_some());
        match hit {
            Some(pattern) => Verdict::Hit(pattern as u16),
            None if self.fallthrough.covers(question.lower) => Verdict::Next,
            None => Verdict::Stop,
        }
    }
}

impl Pattern {
    fn new(pattern: &str) -> Result<Self, String> {
        let regex = regexp::compile(pattern)?;
        let mut groups = Vec::new();
        for (i, name) in regex.capture_names().enumerate() {
            groups.push((i.to_string().into(), i));
            groups.extend(name.map(|name| (name.into(), i)));
        }
        groups.sort();
        Ok(Self { text: pattern.into(), regex, groups })
    }
}

/// Reads `var NAME EXPRESSION` or `expr EXPRESSION`.
fn read_expression(
    draft: &mut expression::Draft,
    lines: &Lines<'_>,
    option: &OptionLine,
) -> Result<(), CorefileError> {
    let text = |words: &[Token]| {
        let words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        words.join(" ")
    };
    if option.name.text == "expr" {
        let words = lines.some_args(option)?;
        return draft.condition(&text(words)).map_err(|why| {
            lines.parse_err(&words[0], format!("could not compile expression: {why}"))
        });
    }
    let [name, words @ ..] = &option.args[..] else { return Err(lines.arg_err(&option.name)) };
    let [first, ..] = words else { return Err(lines.arg_err(name)) };
    let is_identifier = name.text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.text.starts_with(|c: char| c.is_ascii_digit());
    if !is_identifier || name.text.is_empty() {
        return Err(lines.parse_err(name, format!("invalid variable name {:?}", name.text)));
    }
    let known = OF_A_MATCH.iter().any(|function| function.name == name.text);
    if known || draft.has(&name.text) || expression::is_reserved(&name.text) {
        return Err(lines.parse_err(name, format!("variable name {:?} is reserved", name.text)));
    }
    draft.variable(&name.text, &text(words)).map_err(|why| {
        lines.parse_err(first, format!("could not compile expression: {}, {why}", name.text))
    })
}

/// A name exactly as miekg/dns prints it; neither other cases nor numbers.
fn exact(
    text: &str,
    parse: fn(&str) -> Option<u16>,
    name: fn(u16) -> Option<&'static str>,
) -> Option<u16> {
    parse(text).filter(|number| name(*number) == Some(text))
}

fn parse_rcode(text: &str) -> Option<Rcode> {
    // A name that older Corefiles have.
    if text == "NOTIMPL" {
        return Some(rcode::NOTIMP);
    }
    exact(text, rcode::parse, rcode::name)
}

fn parse_extended(lines: &Lines<'_>, option: &OptionLine) -> Result<Box<[u8]>, CorefileError> {
    let (code, text) = match &option.args[..] {
        [code] => (code, ""),
        [code, text] => (code, text.text.as_str()),
        _ => return Err(lines.arg_err(option.args.last().unwrap_or(&option.name))),
    };
    let number: u16 = parse_u16(code).map_err(|why| {
        let why = format!("error parsing extended DNS error code {}, {why}", code.text);
        lines.parse_err(code, why)
    })?;
    Ok([&number.to_be_bytes(), text.as_bytes()].concat().into())
}

fn parse_u16(token: &Token) -> Result<u16, String> {
    let text = &token.text;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let why = if digits { "value out of range" } else { "invalid syntax" };
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or_else(|| format!("strconv.ParseUint: parsing {text:?}: {why}"))
}

impl Plugin for Templates {
    type Frame = Frame;
    type Local = Local;

    fn local(&self, _core: u16) -> Local {
        let own = |pattern: &Pattern| (pattern.regex.clone(), pattern.regex.capture_locations());
        let patterns = self.blocks.iter().map(|block| block.patterns.iter().map(own).collect());
        let texts = Texts {
            name: [0; NAME_TEXT_BYTES_MAX],
            asked: [0; NAME_TEXT_BYTES_MAX],
            remote: [0; ADDRESS_TEXT_BYTES_MAX],
            record: [0; TEMPLATE_RECORD_BYTES_MAX],
        };
        Local {
            patterns: patterns.collect(),
            texts: Box::new(texts),
            memory: Memory::new(),
            scratch: Scratch::default(),
        }
    }

    fn serve(&self, local: &mut Local, cx: &mut Cx<'_>) -> Step<Frame> {
        if self.zones.find(cx.question().lower).is_none() {
            return Step::Next;
        }
        for (i, block) in self.blocks.iter().enumerate() {
            let question = cx.question();
            let name = presented(question.lower, &mut local.texts.name);
            let mut verdict = block.judge(question, name, &mut local.patterns[i]);
            if let Verdict::Hit(pattern) = verdict
                && !block.program.is_empty()
            {
                verdict = self.compute(local, cx, Hit { block: i as u16, pattern });
            }
            match verdict {
                Verdict::Next => {}
                Verdict::Stop => {
                    cx.fail(rcode::SERVFAIL, format_args!(""));
                    return Step::Up;
                }
                Verdict::Hit(pattern) => {
                    let hit = Hit { block: i as u16, pattern };
                    self.counters[i].matched(cx, block);
                    return self.begin(local, cx, hit);
                }
            }
        }
        Step::Next
    }

    /// A CNAME's target has been asked for: adds the answers and goes on with the next record.
    fn resume(&self, local: &mut Local, cx: &mut Cx<'_>, frame: Frame) -> Step<Frame> {
        let (here, side) = cx.both();
        // Without a message there is nothing to add.
        if !side.reply.is_empty() {
            let is_answer = |draft: &mut Draft<'_>| draft.section() == Section::Answer;
            let flags = here.reply.flags();
            here.reply.set_flags(flags.with_tc(side.reply.flags().tc()));
            if here.reply.append(side.reply.bytes(), is_answer).is_err() {
                cx.fail(rcode::SERVFAIL, format_args!("the target's records do not fit"));
                return Step::Up;
            }
        }
        // Other queries have been served in between: their groups stand in the patterns.
        let (question, hit) = (cx.question(), frame.hit);
        let name = presented(question.lower, &mut local.texts.name);
        let (regex, places) = &mut local.patterns[hit.block as usize][hit.pattern as usize];
        regex.captures_read(places, name);
        if !self.blocks[hit.block as usize].program.is_empty() {
            // What it says was heard when the block was hit.
            let _ = self.compute(local, cx, hit);
        }
        self.records(local, cx, frame)
    }
}

impl Templates {
    /// Computes the variables of the block whose pattern was hit, and tells what its conditions say.
    fn compute(&self, local: &mut Local, cx: &Cx<'_>, hit: Hit) -> Verdict {
        let (block, number) = (&self.blocks[hit.block as usize], hit.pattern as usize);
        let question = cx.question();
        let groups = Groups {
            name: presented(question.lower, &mut local.texts.name),
            pattern: &block.patterns[number],
            places: &local.patterns[hit.block as usize][number].1,
        };
        let group = |name: &str| groups.text(name);
        let query = Query { cx, labels: &self.labels, group: &group };
        match block.program.run(&query, &mut local.memory) {
            Ok(true) => Verdict::Hit(hit.pattern),
            Ok(false) if block.fallthrough.covers(question.lower) => Verdict::Next,
            Ok(false) | Err(_) => Verdict::Stop,
        }
    }

    fn begin(&self, local: &mut Local, cx: &mut Cx<'_>, hit: Hit) -> Step<Frame> {
        let block = &self.blocks[hit.block as usize];
        if block.rcode == rcode::SERVFAIL {
            cx.fail(rcode::SERVFAIL, format_args!(""));
            return Step::Up;
        }
        let (_, reply) = cx.answer(true);
        reply.set_rcode(block.rcode);
        if let Some(extended) = &block.extended {
            cx.level_mut().extra.push(edns::EDE, extended);
        }
        self.records(local, cx, Frame { hit, next: 0 })
    }

    /// Makes one record of the block that was hit, into `local.scratch`.
    fn make<'r>(
        &self,
        local: &mut Local,
        cx: &Cx<'_>,
        hit: Hit,
        record: &'r Record,
    ) -> Result<RecordHead, Unmade<'r>> {
        let (block, number) = (&self.blocks[hit.block as usize], hit.pattern as usize);
        let question = cx.question();
        let Texts { name, asked, remote, record: room } = &mut *local.texts;
        let name = presented(question.lower, name);
        let is_lower = question.name.as_bytes() == question.lower.as_bytes();
        let asked_name = if is_lower { name } else { presented(question.name, asked) };
        let asked = Asked { name: asked_name, rtype: question.rtype, rclass: question.rclass };
        let Effective { class, rtype } = block.effective(question);
        let data = Data {
            zone: block.zone(question).map_or("", |(_, zone)| zone),
            name,
            class,
            rtype,
            groups: Groups {
                name,
                pattern: &block.patterns[number],
                places: &local.patterns[hit.block as usize][number].1,
            },
            asked,
            message: Message::new(cx.asked(), asked),
            remote: write_text(remote, format_args!("{}", cx.client().ip())),
            variables: Variables { program: &block.program, memory: &local.memory },
            meta: Meta { cx, labels: &self.labels },
        };
        record.make(&data, room, &mut local.scratch)
    }

    /// Makes the records from `frame.next` on, until one has to wait.
    fn records(&self, local: &mut Local, cx: &mut Cx<'_>, frame: Frame) -> Step<Frame> {
        let block = &self.blocks[frame.hit.block as usize];
        for (i, record) in block.records.iter().enumerate().skip(frame.next as usize) {
            let made = match self.make(local, cx, frame.hit, record) {
                Ok(made) => made,
                Err(fault) => {
                    self.counters[frame.hit.block as usize].failed(cx, block, i, &fault);
                    cx.fail(rcode::SERVFAIL, format_args!("{fault}"));
                    return Step::Up;
                }
            };
            let (owner, rdata) = (local.scratch.owner(), local.scratch.rdata());
            let (question, reply) = cx.edit();
            let rdata_form = Rdata::Wire(rdata);
            let (section, ttl) = (record.section, made.ttl);
            if reply.push(section, owner, made.rtype, made.rclass, ttl, rdata_form).is_err() {
                cx.fail(rcode::SERVFAIL, format_args!("the records do not fit into a reply"));
                return Step::Up;
            }
            let chases = made.rtype == rtype::CNAME
                && section == Section::Answer
                && matches!(question.rtype, rtype::A | rtype::AAAA);
            if chases
                && cx.depth() < ASK_DEPTH_MAX
                && let Ok((target, _)) = Name::from_wire(rdata)
            {
                cx.ask(target, cx.question().rtype, rclass::IN);
                return Step::Ask(Frame { next: i as u16 + 1, ..frame }, Entry::Top);
            }
        }
        Step::Up
    }
}

/// Writes a name's presentation form into `buffer`, which holds any.
fn presented<'b>(name: Name<'_>, buffer: &'b mut [u8; NAME_TEXT_BYTES_MAX]) -> &'b str {
    write_text(buffer, format_args!("{name}"))
}

/// Writes text into a buffer that holds it.
fn write_text<'b>(buffer: &'b mut [u8], text: fmt::Arguments<'_>) -> &'b str {
    let mut out = TextBuf::new(buffer);
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "the buffer holds any such text");
    let len = out.len();
    std::str::from_utf8(&buffer[..len]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_exactly_their_names() {
        assert_eq!(exact("NSAP-PTR", rtype::parse, rtype::name), Some(rtype::NSAP_PTR));
        for text in ["a", "TYPE1", "", "A "] {
            assert_eq!(exact(text, rtype::parse, rtype::name), None, "{text}");
        }
        assert_eq!(exact("ANY", rclass::parse, rclass::name), Some(rclass::ANY));
        assert_eq!(exact("CLASS1", rclass::parse, rclass::name), None);
        assert_eq!(parse_rcode("NOTIMPL"), Some(rcode::NOTIMP));
        assert_eq!(parse_rcode("nxdomain"), None);
        assert_eq!(parse_rcode("RCODE3"), None);
    }

    #[test]
    fn groups_are_sorted_by_key() {
        let pattern = Pattern::new("(?P<z>a)(b)(?P<a>c)").expect("a pattern");
        let keys: Vec<(&str, usize)> =
            pattern.groups.iter().map(|(key, group)| (&**key, *group)).collect();
        assert_eq!(keys, [("0", 0), ("1", 1), ("2", 2), ("3", 3), ("a", 3), ("z", 1)]);
    }

    #[test]
    fn the_longest_name_fits_its_text() {
        let label = [&[63u8][..], &[0; 63]].concat();
        let wire = [&label.repeat(3)[..], &[61], &[0; 61], &[0]].concat();
        let (name, _) = Name::from_wire(&wire).expect("255 octets");
        let text = presented(name, &mut [0; NAME_TEXT_BYTES_MAX]).to_owned();
        assert_eq!(text.len(), 4 * 250 + 4);
        assert_eq!(text, name.to_string());
    }
}
