//! # rewrite
//!
//! Changes what is asked, and changes the reply back.
//!
//! ## Syntax
//!
//! ```text
//! rewrite [continue|stop] FIELD ARGUMENTS...
//! ```
//!
//! or with the words of a rule in a block, one rule a block:
//!
//! ```text
//! rewrite [continue|stop] {
//!     FIELD ARGUMENTS...
//!     [answer ...]
//! }
//! ```
//!
//! Rules are applied in the order of the Corefile. After one that was applied the next are looked at
//! (`continue`) or not (`stop`, the default). The plugins below see what has become of the query; the
//! client gets a reply to its own question.
//!
//! | rule | what it does |
//! |---|---|
//! | `name [KIND] FROM TO [ANSWERS...]` | asks for another name |
//! | `type FROM TO`, `class FROM TO` | asks for another type or class |
//! | `edns0 ...` | changes the query's EDNS options |
//! | `ttl [KIND] NAME SECONDS\|MIN-MAX` | sets or bounds the TTLs of the reply; either end may be left out |
//! | `rcode [KIND] NAME FROM TO` | changes the reply's rcode, given as a name or number |
//! | `cname [KIND] FROM TO` | changes the target of an alias, and asks the server for it |
//!
//! **KIND** says which names a rule is for; names are in lower case and end in a dot:
//!
//! * `exact` (the default): **FROM**.
//! * `prefix`, `suffix`, `substring`: those whose text begins with, ends in or has **FROM**, to which a
//!   final dot is added if it has none. `suffix .example.org` is names below `example.org.`;
//!   `prefix a` is names whose first label is `a`. It is **FROM** that **TO** takes the place of.
//! * `regex`: those that the Go regular expression **FROM** matches; **TO** is the whole new name,
//!   in which `{1}` is the first group.
//!
//! Of `cname` it is the alias's target that is looked at, and no dot is added but with `exact`.
//!
//! A name that is none (longer than 255 octets, an empty label) is answered with SERVFAIL.
//!
//! ## Answers
//!
//! What stands in records is left as the plugins below wrote it, unless the rule says otherwise:
//!
//! * `answer auto`: the new name, and names below it, become the client's again (in lower case), as
//!   owners and as what records lead to; with `suffix` every name with the suffix **TO** gets **FROM**.
//!   With `exact` this is so without being said.
//! * `answer name FROM TO`: owners that the regular expression **FROM** matches become **TO**.
//! * `answer value FROM TO`: the same for what CNAME, DNAME, SRV, MX, NS, PTR and NAPTR records lead to,
//!   and for the primary server of SOA records.
//!
//! Several may follow each other. They are for all sections. Rules are taken back in the opposite order.
//!
//! ## EDNS options
//!
//! ```text
//! edns0 local  set|append|replace CODE DATA [revert]
//! edns0 nsid   set|append|replace [revert]
//! edns0 subnet set|append|replace BITS4 BITS6 [revert]
//! edns0 local  unset CODE
//! edns0 nsid|subnet unset
//! ```
//!
//! `set` gives the first such option of the query this data, or adds one; `replace` only does the
//! former, `append` the latter; `unset` takes them out. **DATA** is text, octets (`0x616263`), one of
//! `{qname}`, `{qtype}`, `{client_ip}`, `{client_port}`, `{protocol}`, `{server_ip}`, `{server_port}`,
//! or a metadata label (`{kubernetes/namespace}`); without a value the rule is not applied. A
//! subnet (RFC 7871) is the first **BITS4** or **BITS6** bits of the client's address. A query without
//! EDNS gets it, and so does the reply to it, which is fitted to 512 octets all the same.
//!
//! A local option goes back to the client with the reply, unless an upstream's reply has an OPT record
//! of its own, whose options are handed on. With `revert` the client does not see what the rule did.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     rewrite stop {
//!         name suffix .old.example.org .new.example.org answer auto
//!     }
//!     rewrite name exact alias.example.org web.default.svc.cluster.local
//!     rewrite continue ttl suffix .example.org 30-300
//!     rewrite stop type ANY HINFO
//!     whoami
//! }
//! ```
//!
//! ```corefile
//! . {
//!     rewrite name regex (.*)-(us-west-1)\.example\.org {1}.service.{2}.consul
//!     whoami
//! }
//! ```
//!
//! ```corefile
//! . {
//!     rewrite stop {
//!         name regex (.*)-(eu|us)\.example\.org\. {1}.{2}.example.net
//!         answer name (.*)\.(eu|us)\.example\.net\. {1}-{2}.example.org
//!         answer value (.*)\.(eu|us)\.example\.net\. {1}-{2}.example.org
//!     }
//!     rewrite rcode regex .* SERVFAIL NXDOMAIN
//!     rewrite edns0 local set 0xffee {client_ip} revert
//!     rewrite cname suffix .cdn.example. .other.example.
//!     forward . 192.0.2.53
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * `log`, `errors` and the metrics show the type and class that the client asked for.
//! * A record whose changed name is none makes the reply SERVFAIL; CoreDNS sends nothing then.
//! * `answer auto` compares names without regard to case (RFC 4343).
//! * Each rule about the rcode is applied once, not once for each record.
//! * The target of one alias of a reply is changed, the first that a rule is for. Targets are compared in
//!   lower case. Where aliases lead on without end, ten are followed.
//! * What a group of a regular expression matched is not searched for further groups.
//! * `{server_ip}` has a value for datagrams to a wildcard address too.
//! * A client without EDNS does not get more than 512 octets by UDP (RFC 6891 section 7).
//!
//! As with CoreDNS, where the last rule that was applied said `continue` and none has to do with the
//! reply, the reply is to the question as it was changed. Resolvers take no such reply (RFC 5452
//! section 9.1): let a rule that changes the question `stop`.
//!
//! Cost: nothing is allocated. A query that no rule is for pays for looking at it; one whose question is
//! changed has its reply built once more, names expanded and compressed again.

mod names;
mod notes;
mod options;
mod parse;
mod reply;
mod rule;

#[cfg(test)]
mod tests;

use regex::Regex;

use super::{
    Compiled, CorefileError, Cx, Directive, Entry, Facts, Lines, Plugin, ReplyState, SetupError,
    Site, Step,
};
use crate::data::chain::cx::Span;
use crate::limits::ASK_DEPTH_MAX;
use crate::snapshot::MetaRef;
use crate::wire::{Draft, NameBuf, Section, rclass, rcode, rtype};
use names::{Changed, Patterns, Subject, Texts};
use notes::{Note, Notes};
use options::{Room, Source, Work};
use parse::Draft as Words;
use reply::Edits;
use rule::{Back, Does, Rule};

/// The directive: its rules in the order of the Corefile.
pub struct Rewrite {
    words: Words,
}

/// The link.
pub struct Link {
    rules: Vec<Rule>,
    patterns: Vec<Regex>,
    labels: Vec<MetaRef>,
}

/// What a worker needs while it serves.
pub struct Local {
    /// Expressions of its own, so that no two workers share a cache.
    patterns: Patterns,
    texts: Box<Texts>,
    room: Box<Room>,
    notes: Notes,
    options: Work,
}

/// What is remembered of a query.
#[derive(Clone, Copy)]
pub struct Frame {
    notes: Span,
    /// The type that was asked for below.
    rtype: u16,
    /// Whether another question was asked below.
    asks: bool,
    /// Whether the reply gets the client's question.
    restores: bool,
    waits: Waits,
}

/// What is waited for.
#[derive(Clone, Copy)]
enum Waits {
    /// The reply of the plugins below.
    Reply,
    /// The reply for the new target of the answer of this number, an alias.
    Target(u16),
}

impl Directive for Rewrite {
    const NAME: &'static str = "rewrite";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut words = Words::default();
        for stanza in lines.stanzas() {
            words.read(lines, stanza)?;
        }
        Ok(Self { words })
    }

    fn facts(&self, facts: &mut Facts) {
        facts.local_options.extend(self.words.rules.iter().filter_map(|rule| match &rule.does {
            Does::Option(rule) => Some(rule.code).filter(|_| rule.is_local()),
            _ => None,
        }));
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let Words { rules, patterns, labels } = self.words;
        let labels = labels.iter().map(|label| site.meta(label)).collect();
        Ok(Compiled::link(Link { rules, patterns, labels }))
    }
}

/// What has become of a query so far.
struct Query<'l> {
    /// Its name in lower case.
    name: Subject<'l>,
    /// Its name as it is asked for.
    written: NameBuf,
    rtype: u16,
    rclass: u16,
    stopped: bool,
}

impl Link {
    /// Applies the rules to the query; nothing: a name that was made is none.
    fn rules<'l>(
        &self,
        cx: &Cx<'_>,
        patterns: &mut Patterns,
        (notes, work): (&mut Notes, &mut Work),
        (texts, room): (&'l mut Texts, &mut Room),
    ) -> Option<Query<'l>> {
        let question = cx.question();
        let mut query = Query {
            name: Subject::new(question.lower.into(), texts),
            written: question.name.into(),
            rtype: question.rtype,
            rclass: question.rclass,
            stopped: false,
        };
        for (number, rule) in self.rules.iter().enumerate() {
            let applied = match &rule.does {
                Does::Name(rule) => match rule.change.apply(&mut query.name, patterns) {
                    Changed::Illegal => return None,
                    Changed::Not => false,
                    Changed::To(name) => {
                        if matches!(rule.back, Back::Name) && name.as_name() != query.name.name() {
                            notes.push(number, Note::Back(name.as_name(), query.name.name()));
                        }
                        if rule.edits() {
                            notes.push(number, Note::Rule);
                        }
                        query.name.set(name);
                        query.written = name;
                        true
                    }
                },
                Does::Type { from, to } => replace(&mut query.rtype, *from, *to),
                Does::Class { from, to } => replace(&mut query.rclass, *from, *to),
                Does::Option(rule) => {
                    let (name, labels) = (query.written.as_name(), &*self.labels);
                    let of = Source { cx, name, rtype: query.rtype, labels };
                    work.apply((number, rule), &of, room, notes)
                }
                Does::Ttl { of, .. } | Does::Rcode { of, .. } => {
                    let fits = of.have(&mut query.name, patterns);
                    if fits {
                        notes.push(number, Note::Rule);
                    }
                    fits
                }
                Does::Cname(_) => {
                    notes.push(number, Note::Rule);
                    true
                }
            };
            if applied && rule.stops {
                query.stopped = true;
                break;
            }
        }
        Some(query)
    }

    /// Edits the reply; gives the new target of an alias in it.
    fn edit(
        &self,
        local: &mut Local,
        cx: &mut Cx<'_>,
        frame: Frame,
    ) -> Result<Option<(u16, NameBuf)>, &'static str> {
        let Local { patterns, texts, notes, .. } = local;
        let mut edits = Edits::new(&self.rules, notes, patterns, texts);
        let written = if frame.asks {
            let first = cx.take_side(frame.restores, |draft| edits.record(draft));
            first.or_else(|_| {
                edits.restart();
                cx.enlarge();
                cx.take_side(frame.restores, |draft| edits.record(draft))
            })
        } else if edits.touch_names() {
            let (_, reply, scratch) = cx.edit_with_scratch();
            let first = reply.edit(scratch, |draft| edits.record(draft));
            first.or_else(|_| {
                edits.restart();
                cx.grow();
                let (_, reply, scratch) = cx.edit_with_scratch();
                reply.edit(scratch, |draft| edits.record(draft))
            })
        } else {
            if edits.touch_ttls() {
                cx.level_mut().reply.patch_ttls(|_, ttl| edits.ttl(ttl));
            }
            Ok(())
        };
        if edits.illegal {
            return Err("invalid name in a reply after rewrite");
        }
        let code = cx.level().rcode();
        let target = edits.target;
        let other = edits.rcode(code);
        if written.is_err() {
            truncate(cx, code)?;
        }
        if other != code {
            // What a plugin did not write is written now, so that it is a reply like any other.
            cx.write_failure();
            cx.level_mut().reply.set_rcode(other);
        }
        Ok(target.filter(|_| written.is_ok()))
    }

    /// Takes back what was done to the options, in the query and in what goes back to the client.
    fn revert(local: &mut Local, cx: &mut Cx<'_>) {
        let Local { notes, options: work, .. } = local;
        let mut reverts = notes.backwards().map(|(_, note)| note);
        if !reverts.any(|note| matches!(note, Note::Remove(_) | Note::Replace(..))) {
            return;
        }
        work.clear();
        work.load(cx);
        notes.backwards().for_each(|(_, note)| work.revert(note));
        // There was room for more before.
        cx.set_options(work.as_bytes(), options::UDP_SIZE);
        let extra = &mut cx.level_mut().extra;
        work.take(extra.as_bytes());
        notes.backwards().for_each(|(_, note)| work.revert(note));
        let whole = extra.is_whole();
        extra.clear();
        for (code, data) in crate::wire::options(work.as_bytes()) {
            extra.push(code, data);
        }
        if whole {
            extra.make_whole();
        }
    }
}

/// Gives up on a reply that has no room: over UDP it is asked for again by TCP.
fn truncate(cx: &mut Cx<'_>, code: u16) -> Result<(), &'static str> {
    if cx.client().transport.is_stream() {
        return Err("the rewritten reply does not fit");
    }
    let (_, reply) = cx.answer(false);
    reply.set_rcode(code);
    reply.set_flags(reply.flags().with_tc(true));
    Ok(())
}

fn replace(number: &mut u16, from: u16, to: u16) -> bool {
    let fits = *number == from;
    if fits {
        *number = to;
    }
    fits
}

impl Plugin for Link {
    type Frame = Frame;
    type Local = Local;

    fn local(&self, _core: u16) -> Local {
        let own = |pattern: &Regex| (pattern.clone(), pattern.capture_locations());
        Local {
            patterns: self.patterns.iter().map(own).collect(),
            texts: Box::new(Texts::new()),
            room: Box::new(Room::new()),
            notes: Notes::new(),
            options: Work::new(),
        }
    }

    fn serve(&self, local: &mut Local, cx: &mut Cx<'_>) -> Step<Frame> {
        let Local { patterns, texts, room, notes, options: work } = local;
        notes.clear();
        work.clear();
        let Some(query) = self.rules(cx, patterns, (notes, work), (texts, room)) else {
            cx.fail(rcode::SERVFAIL, format_args!("invalid name after rewrite"));
            return Step::Up;
        };
        let Query { written, rtype, rclass, stopped, .. } = query;
        let fits = !notes.is_full()
            && !work.is_full()
            && (!work.touched || cx.set_options(work.as_bytes(), options::UDP_SIZE));
        if !fits {
            cx.fail(rcode::SERVFAIL, format_args!("rewrite: no room for what the rules did"));
            return Step::Up;
        }
        let question = cx.question();
        let asks = written.as_name().as_bytes() != question.name.as_bytes()
            || [rtype, rclass] != [question.rtype, question.rclass];
        if !asks && notes.is_empty() {
            return Step::Next;
        }
        let Some(kept) = cx.keep(notes.as_bytes()) else {
            cx.fail(rcode::SERVFAIL, format_args!("rewrite: no room for what the rules did"));
            return Step::Up;
        };
        let restores = stopped || !notes.is_empty();
        let frame = Frame { notes: kept, rtype, asks, restores, waits: Waits::Reply };
        if !asks {
            return Step::Watch(frame);
        }
        cx.ask(written.as_name(), rtype, rclass);
        Step::Ask(frame, Entry::Below)
    }

    fn resume(&self, local: &mut Local, cx: &mut Cx<'_>, frame: Frame) -> Step<Frame> {
        if let Waits::Target(alias) = frame.waits {
            add_target(cx, alias);
            return Step::Up;
        }
        local.notes.load(cx.kept(frame.notes));
        let target = match self.edit(local, cx, frame) {
            Ok(target) => target,
            Err(why) => {
                cx.fail(rcode::SERVFAIL, format_args!("{why}"));
                return Step::Up;
            }
        };
        Self::revert(local, cx);
        match target {
            Some((alias, name)) if cx.depth() < ASK_DEPTH_MAX => {
                cx.ask(name.as_name(), frame.rtype, rclass::IN);
                Step::Ask(Frame { waits: Waits::Target(alias), ..frame }, Entry::Top)
            }
            _ => Step::Up,
        }
    }
}

/// Makes the answers those up to the alias of this number, and what was found for its target.
fn add_target(cx: &mut Cx<'_>, alias: u16) {
    if cx.level().state != ReplyState::Written {
        return;
    }
    let mut number = 0;
    let kept = |draft: &mut Draft<'_>| {
        let keep = draft.rtype() == rtype::CNAME && number <= alias;
        number += u16::from(draft.section() == Section::Answer);
        keep
    };
    if cx.add_side(kept).is_err() {
        let code = cx.level().rcode();
        if let Err(why) = truncate(cx, code) {
            cx.fail(rcode::SERVFAIL, format_args!("{why}"));
        }
    }
}
