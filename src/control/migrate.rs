//! `corelane migrate FILE`: a Corefile of an older CoreDNS, written as today's.
//!
//! The text is edited in place: comments, blanks and order stay. A word that has another name today is
//! replaced; a line that means nothing today is commented out, so that nothing is lost from sight; what
//! became a directive of its own is added below. Every change is told with its line, and so is what
//! cannot be changed by a rule and is left as it was.
//!
//! What it knows is what CoreDNS's releases since 0.9 removed: `proxy`, `federation`, `startup`,
//! `shutdown`, `reverse`, files as arguments of `log` and `errors`, the options `upstream`,
//! `resyncperiod`, `cidrs`, `no_reload`, the time of `directory`, rules of `header` without a side,
//! several endpoints of `kubernetes`, and `transfer to` inside of `kubernetes`, `file` and `auto`. A
//! Corefile in which it finds any of these gets `ready` beside `kubernetes`: since 1.5 `health` does not
//! tell whether the cluster is known.

use std::collections::{BTreeMap, BTreeSet};

use super::corefile::{
    self, Directives, Input, OptionLine, ServerBlock, Stanza, Token, zones_of_text,
};

/// Directives that earlier releases had, beside those that are known today.
pub const FORMER: &[&str] = &["federation", "proxy", "reverse", "shutdown", "startup"];

/// A Corefile as it reads today, and what was done to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Migration {
    /// The whole text.
    pub text: String,
    /// `FILE:LINE: what was changed`, in the order of the file.
    pub changes: Vec<String>,
    /// `FILE:LINE: what is left to do`.
    pub left: Vec<String>,
}

/// Rewrites the Corefile `name` that reads `text`. `known` are the directives of today; `env` gives the
/// variables that it names. What cannot be read is told as left to do; what plugins make of their
/// options is not looked at: that is `check`'s.
pub fn migrate(
    name: &str,
    text: &str,
    known: &[&str],
    env: &dyn Fn(&str) -> Option<String>,
) -> Migration {
    let mut all = known.to_vec();
    all.extend(FORMER);
    let input = Input::Text { name: name.to_owned(), text: text.as_bytes().to_vec() };
    let directives = Directives { known: &all, built: &all };
    let reading = corefile::read(input, directives, env, 53);
    let mut draft = Draft {
        name,
        lines: text.split('\n').collect(),
        edits: BTreeMap::new(),
        seen: BTreeSet::new(),
        told: BTreeSet::new(),
    };
    for block in &reading.corefile.blocks {
        for stanza in &block.stanzas {
            // A snippet is read once for each of its imports.
            let place = &stanza.name.place;
            if draft.seen.insert((place.file.to_string(), place.line, place.column)) {
                draft.directive(block, stanza);
            }
        }
    }
    draft.ready(&reading.corefile.blocks);
    for error in &reading.errors {
        let line = error.place.as_ref().map_or(0, |place| place.line);
        draft.told.insert((line, true, error.to_string()));
    }
    draft.finish()
}

/// What is done to a line.
#[derive(Debug, PartialEq, Eq)]
enum Edit {
    /// It becomes a comment.
    Comment,
    /// From this column (of characters, 0 first) on, so many characters become this text.
    Replace(usize, usize, String),
    /// These lines follow it.
    Append(String),
}

/// The text, and what is to be done to it.
struct Draft<'t> {
    name: &'t str,
    lines: Vec<&'t str>,
    /// By line, 0 first.
    edits: BTreeMap<usize, Vec<Edit>>,
    seen: BTreeSet<(String, u32, u32)>,
    /// Line, whether it is left to do, and what.
    told: BTreeSet<(u32, bool, String)>,
}

impl Draft<'_> {
    fn directive(&mut self, block: &ServerBlock, stanza: &Stanza) {
        match stanza.directive.as_str() {
            "proxy" => self.proxy(block, stanza),
            "forward" => self.order(block, stanza),
            "federation" => {
                self.remove(stanza, "federation is gone: services of other clusters have no names");
            }
            "reverse" => self.leave(&stanza.name, "reverse is gone: write it as a template"),
            "startup" | "shutdown" => {
                let now = format!("on {}", stanza.directive);
                self.rename(&stanza.name, &now);
            }
            "log" => self.log(stanza),
            "errors" => self.outputs(&stanza.args, "errors go to standard output"),
            "kubernetes" => self.kubernetes(block, stanza),
            "file" | "auto" | "secondary" => self.zone_data(block, stanza),
            "header" => self.header(stanza),
            "template" | "etcd" | "route53" | "azure" | "clouddns" | "autopath" => {
                self.without_upstream(block, stanza);
            }
            _ => {}
        }
    }

    /// Of several uses of `proxy` the longest zone counted, of those of `forward` it is the first.
    fn order(&mut self, block: &ServerBlock, stanza: &Stanza) {
        let is_one = |one: &&Stanza| matches!(&*one.directive, "proxy" | "forward");
        let zone = |one: &Stanza| {
            let zones = one.args.first().map(|word| zones_of_text(&word.text));
            zones.and_then(|zones| zones.first().copied())
        };
        let Some(own) = zone(stanza) else { return };
        let above = block.stanzas.iter().take_while(|one| !std::ptr::eq(*one, stanza));
        let taker = above.filter(is_one).find(|one| {
            let is_below = zone(one)
                .is_some_and(|other| other != own && own.as_name().is_under(other.as_name()));
            is_below && (one.directive == "proxy" || stanza.directive == "proxy")
        });
        if let Some(taker) = taker {
            let line = taker.name.place.line;
            let why = format!(
                "put it above line {line}, which takes its names, too: of several the first \
                 counts today, not the longest zone"
            );
            self.leave(&stanza.name, &why);
        }
    }

    fn proxy(&mut self, block: &ServerBlock, stanza: &Stanza) {
        self.order(block, stanza);
        self.rename(&stanza.name, "forward");
        for option in &stanza.options {
            let first = option.args.first().map(|token| token.text.as_str());
            match (option.name.text.as_str(), first) {
                ("policy", Some("first")) => self.rename(&option.args[0], "sequential"),
                ("policy", Some("random" | "round_robin")) | ("except" | "max_fails", _) => {}
                ("policy", _) => self.drop(option, "forward knows no such policy: random is meant"),
                ("protocol", Some("dns"))
                    if option.args.get(1).is_some_and(|word| word.text == "force_tcp") =>
                {
                    self.replace_line(option, "force_tcp");
                }
                ("protocol", Some("dns")) => self.drop(option, "plain DNS is what forward speaks"),
                ("protocol", Some("force_tcp")) => self.replace_line(option, "force_tcp"),
                ("protocol", Some("https_google")) => {
                    self.drop(option, "plain DNS was spoken in its place since 1.1.4");
                }
                ("protocol", Some("grpc")) => {
                    self.leave(&option.name, "upstreams that speak gRPC are those of `grpc`");
                }
                ("protocol", _) => {
                    self.leave(&option.name, "forward takes tls:// and https:// upstreams instead");
                }
                ("fail_timeout", _) => {
                    self.drop(option, "forward asks a failed upstream again by its health checks");
                }
                ("health_check", _) => {
                    self.drop(option, "forward checks by a DNS query, not over HTTP");
                }
                ("spray", _) => self.drop(option, "forward sprays when no upstream is healthy"),
                _ => self.leave(&option.name, "no option of forward"),
            }
        }
    }

    fn kubernetes(&mut self, block: &ServerBlock, stanza: &Stanza) {
        for option in &stanza.options {
            match option.name.text.as_str() {
                "resyncperiod" => self.drop(option, "watches need no resync"),
                "upstream" => self.upstream(block, option),
                "cidrs" => {
                    let cidrs: Vec<&str> =
                        option.args.iter().map(|word| word.text.as_str()).collect();
                    self.drop(option, "reverse zones are arguments of kubernetes");
                    let last = stanza.args.last().unwrap_or(&stanza.name);
                    self.extend(last, &format!(" {}", cidrs.join(" ")));
                }
                "endpoint" => self.endpoints(&option.args),
                _ => {}
            }
        }
        self.transfers(block, stanza);
    }

    /// One API server is asked: the first one.
    fn endpoints(&mut self, words: &[Token]) {
        let why = "one API server is asked: put a load balancer before several";
        let Some((first, rest)) = words.split_first() else { return };
        if let Some((one, more)) = first.text.split_once(',') {
            if self.stands(first) {
                let (line, column) = (first.place.line, first.place.column as usize - 1);
                let (from, length) = (column + one.chars().count(), 1 + more.chars().count());
                self.edit(line, Edit::Replace(from, length, String::new()));
                self.tell(line, false, &format!("{more} taken out: {why}"));
            } else {
                self.leave(first, why);
            }
        }
        rest.iter().for_each(|word| self.cut(word, why));
    }

    fn zone_data(&mut self, block: &ServerBlock, stanza: &Stanza) {
        for option in &stanza.options {
            match option.name.text.as_str() {
                "upstream" => self.upstream(block, option),
                "no_reload" => self.replace_line(option, "reload 0"),
                "directory" => self.scan_time(option),
                _ => {}
            }
        }
        self.transfers(block, stanza);
    }

    fn without_upstream(&mut self, block: &ServerBlock, stanza: &Stanza) {
        for option in &stanza.options {
            match option.name.text.as_str() {
                "upstream" => self.upstream(block, option),
                "stubzones" => self.drop(option, "stub zones are server blocks with forward"),
                _ => {}
            }
        }
    }

    /// What is outside is asked of the server itself, which may have nobody to ask.
    fn upstream(&mut self, block: &ServerBlock, option: &OptionLine) {
        self.drop(option, "names outside are resolved by this server");
        let resolves =
            ["forward", "proxy", "grpc"].iter().any(|one| block.uses(one).next().is_some());
        if !option.args.is_empty() && !resolves {
            let words: Vec<&str> = option.args.iter().map(|word| word.text.as_str()).collect();
            let why = format!("add `forward . {}` for names outside", words.join(" "));
            self.leave(&option.name, &why);
        }
    }

    /// `directory DIR REGEXP TEMPLATE SECONDS`: the time became `reload`.
    fn scan_time(&mut self, option: &OptionLine) {
        let Some(word) = option.args.get(3) else { return };
        let line = option.name.place.line;
        if !self.stands(word) || !self.begins_line(&option.name) || !self.cut_quietly(word) {
            return self.leave(word, "the time between scans is `reload DURATION` today");
        }
        let unit = if word.text.bytes().all(|byte| byte.is_ascii_digit()) { "s" } else { "" };
        let now = format!("{}reload {}{unit}", self.indent(line), word.text);
        self.edit(line, Edit::Append(now));
        self.tell(line, false, &format!("{} is `reload` today, added below", word.text));
    }

    /// Rules without a side were for replies.
    fn header(&mut self, stanza: &Stanza) {
        for option in &stanza.options {
            let word = &option.name;
            if matches!(word.text.as_str(), "set" | "clear") {
                self.rename(word, &format!("response {}", word.text));
            }
        }
    }

    fn log(&mut self, stanza: &Stanza) {
        self.outputs(&stanza.args, "logs go to standard output");
        for word in stanza.args.iter().filter(|word| word.text.contains("{when}")) {
            self.leave(word, "{when} is printed as it is today: take it out");
        }
    }

    /// `ready` beside `kubernetes`, in a Corefile that is older than it.
    fn ready(&mut self, blocks: &[ServerBlock]) {
        let uses = |name| blocks.iter().flat_map(move |block| block.uses(name));
        if self.told.is_empty() || uses("ready").next().is_some() {
            return;
        }
        let Some(stanza) = uses("kubernetes").next() else { return };
        let why = "since 1.5 `ready` tells whether the cluster is known, not `health`";
        let line = stanza.name.place.line;
        let indent = self.indent(line);
        if self.append(stanza, format!("{indent}ready")) {
            self.tell(line, false, &format!("ready added below: {why}"));
        } else {
            self.leave(&stanza.name, &format!("add ready: {why}"));
        }
    }

    /// Adds lines below a directive; false where it does not stand on lines of its own.
    fn append(&mut self, stanza: &Stanza, lines: String) -> bool {
        let last = self.last_line(stanza);
        let ends = self.line(last).is_some_and(|line| match stanza.has_block {
            true => line.trim() == "}",
            false => !line.contains(['{', '}', '\\']),
        });
        let alone = ends && self.is_here(&stanza.name) && self.begins_line(&stanza.name);
        if alone {
            self.edit(last, Edit::Append(lines));
        }
        alone
    }

    /// `transfer to ADDRESS…` became a directive, which takes the addresses of several such lines;
    /// `transfer from` of `secondary` is as it was.
    fn transfers(&mut self, block: &ServerBlock, stanza: &Stanza) {
        let is_out = |option: &&OptionLine| {
            option.name.text == "transfer"
                && option.args.first().is_some_and(|word| word.text == "to")
        };
        let lines: Vec<&OptionLine> = stanza.options.iter().filter(is_out).collect();
        let Some(first) = lines.first() else { return };
        let zones: Vec<&str> = match stanza.directive.as_str() {
            "file" => stanza.args.iter().skip(1).map(|word| word.text.as_str()).collect(),
            _ => stanza.args.iter().map(|word| word.text.as_str()).collect(),
        };
        let zones = zones.iter().map(|zone| format!(" {zone}")).collect::<String>();
        let words = lines.iter().flat_map(|line| &line.args[1..]);
        let hosts: Vec<&str> = words.map(|word| word.text.as_str()).collect();
        let indent = self.indent(stanza.name.place.line);
        let to = hosts.join(" ");
        let added = format!("{indent}transfer{zones} {{\n{indent}    to {to}\n{indent}}}");
        let why = "transfers are a directive of their own, added below";
        let is_told = lines.iter().all(|line| self.may_be_commented(line))
            && self.append(stanza, added)
            && lines.iter().all(|line| self.commented(line, why));
        if !is_told {
            self.leave(&first.name, "transfers are a directive of their own: add `transfer`");
        }
        if block.uses("transfer").next().is_some() {
            self.leave(&first.name, "the block has a transfer already: see that they agree");
        }
    }

    /// Words that name where lines were written to, in releases that wrote to files.
    fn outputs(&mut self, args: &[Token], why: &str) {
        for word in args {
            let text = word.text.as_str();
            let path = text.starts_with('/') || text.starts_with("./") || text.ends_with(".log");
            if !word.quoted && (path || matches!(text, "stdout" | "stderr" | "syslog")) {
                self.cut(word, why);
            }
        }
    }

    /// Comments a whole directive out.
    fn remove(&mut self, stanza: &Stanza, why: &str) {
        let (first, last) = (stanza.name.place.line, self.last_line(stanza));
        let alone = self.begins_line(&stanza.name)
            && (first == last || self.line(last).is_some_and(|line| line.trim() == "}"));
        if !alone || !self.is_here(&stanza.name) {
            return self.leave(&stanza.name, why);
        }
        for line in first..=last {
            self.edit(line, Edit::Comment);
        }
        self.tell(first, false, why);
    }

    fn drop(&mut self, option: &OptionLine, why: &str) {
        self.commented(option, why);
    }

    /// Comments an option's line out; false if that cannot be done and was told.
    fn commented(&mut self, option: &OptionLine, why: &str) -> bool {
        let line = option.name.place.line;
        if !self.may_be_commented(option) {
            self.leave(&option.name, why);
            return false;
        }
        self.edit(line, Edit::Comment);
        self.tell(line, false, &format!("{}: {why}", option.name.text));
        true
    }

    /// Whether an option has its line for itself.
    fn may_be_commented(&self, option: &OptionLine) -> bool {
        let shared = |line: &str| line.contains(['{', '}', '\\']) || line.contains('"');
        self.is_here(&option.name)
            && self.begins_line(&option.name)
            && !self.line(option.name.place.line).is_none_or(shared)
    }

    fn replace_line(&mut self, option: &OptionLine, now: &str) {
        self.rename(&option.name, now);
        for word in &option.args {
            self.cut_quietly(word);
        }
    }

    fn rename(&mut self, token: &Token, now: &str) {
        let why = format!("{} is {now} today", token.text);
        if !self.stands(token) {
            return self.leave(token, &why);
        }
        let (column, length) = (token.place.column as usize - 1, token.text.chars().count());
        self.edit(token.place.line, Edit::Replace(column, length, now.to_owned()));
        self.tell(token.place.line, false, &why);
    }

    /// Writes `more` behind a token.
    fn extend(&mut self, token: &Token, more: &str) {
        if !self.stands(token) {
            return self.leave(token, &format!("add{more}"));
        }
        let column = token.place.column as usize - 1 + token.text.chars().count();
        self.edit(token.place.line, Edit::Replace(column, 0, more.to_owned()));
    }

    fn cut(&mut self, token: &Token, why: &str) {
        if !self.cut_quietly(token) {
            return self.leave(token, why);
        }
        self.tell(token.place.line, false, &format!("{} taken out: {why}", token.text));
    }

    /// Takes a word out, with the blank before it.
    fn cut_quietly(&mut self, token: &Token) -> bool {
        let stands = self.stands(token);
        if stands {
            let column = token.place.column as usize - 1;
            let blank = usize::from(column > 0);
            let length = token.text.chars().count() + blank;
            self.edit(token.place.line, Edit::Replace(column - blank, length, String::new()));
        }
        stands
    }

    /// Whether the token is of this file, not of one that it imports.
    fn is_here(&self, token: &Token) -> bool {
        *token.place.file == *self.name
    }

    /// Whether the file reads at the token's place what the token says: not so for quoted words and
    /// for those that a variable is part of.
    fn stands(&self, token: &Token) -> bool {
        let rest =
            |line: &str| line.chars().skip(token.place.column as usize - 1).collect::<String>();
        self.is_here(token)
            && self.line(token.place.line).is_some_and(|line| rest(line).starts_with(&token.text))
    }

    fn begins_line(&self, token: &Token) -> bool {
        let line = self.line(token.place.line).unwrap_or_default();
        let blanks = line.chars().take_while(|c| c.is_whitespace()).count();
        blanks + 1 == token.place.column as usize
    }

    fn line(&self, number: u32) -> Option<&str> {
        self.lines.get(number.checked_sub(1)? as usize).copied()
    }

    fn indent(&self, number: u32) -> String {
        let line = self.line(number).unwrap_or_default();
        line.chars().take_while(|c| c.is_whitespace()).collect()
    }

    /// The line of the brace that closes the directive's block, or its own.
    fn last_line(&self, stanza: &Stanza) -> u32 {
        let words = stanza.options.iter().flat_map(|o| std::iter::once(&o.name).chain(&o.args));
        let last = words.chain(&stanza.args).map(|word| word.place.line).max();
        let last = last.unwrap_or(stanza.name.place.line).max(stanza.name.place.line);
        if !stanza.has_block {
            return last;
        }
        let closes = |line: &u32| self.line(*line).is_some_and(|text| text.contains('}'));
        let end = u32::try_from(self.lines.len()).unwrap_or(u32::MAX);
        (last..=end).find(closes).unwrap_or(last)
    }

    fn edit(&mut self, line: u32, edit: Edit) {
        let edits = self.edits.entry(line as usize - 1).or_default();
        if !edits.contains(&edit) {
            edits.push(edit);
        }
    }

    fn tell(&mut self, line: u32, left: bool, what: &str) {
        self.told.insert((line, left, format!("{}:{line}: {what}", self.name)));
    }

    fn leave(&mut self, token: &Token, what: &str) {
        let place = &token.place;
        let said = format!("{}:{}: {}: {what}", place.file, place.line, token.text);
        self.told.insert((place.line, true, said));
    }

    fn finish(self) -> Migration {
        let mut out = Vec::with_capacity(self.lines.len());
        for (number, line) in self.lines.iter().enumerate() {
            let mut line = (*line).to_owned();
            let mut appended = Vec::new();
            let mut edits = self.edits.get(&number).map(|edits| edits.iter().collect::<Vec<_>>());
            // From the right, so that columns hold.
            let edits = edits.as_deref_mut().unwrap_or_default();
            edits.sort_by_key(|edit| match edit {
                Edit::Replace(column, ..) => std::cmp::Reverse(*column),
                Edit::Comment | Edit::Append(_) => std::cmp::Reverse(0),
            });
            for edit in edits {
                match edit {
                    Edit::Replace(column, length, now) => {
                        let mut chars = line.chars();
                        let mut new: String = chars.by_ref().take(*column).collect();
                        new.push_str(now);
                        new.extend(chars.skip(*length));
                        line = new;
                    }
                    Edit::Comment => {
                        let blanks = line.len() - line.trim_start().len();
                        line.insert_str(blanks, "# ");
                    }
                    Edit::Append(text) => appended.push(text.clone()),
                }
            }
            out.push(line);
            out.append(&mut appended);
        }
        let (left, changes): (Vec<_>, Vec<_>) = self.told.into_iter().partition(|told| told.1);
        let texts = |told: Vec<(u32, bool, String)>| told.into_iter().map(|told| told.2).collect();
        Migration { text: out.join("\n"), changes: texts(changes), left: texts(left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::registry::NAMES;

    fn done(text: &str) -> Migration {
        migrate("Corefile", text, NAMES, &|_| None)
    }

    #[test]
    fn a_corefile_of_today_stays_as_it_is() {
        let text = "# stock\n.:53 {\n    errors\n    log . {\n        class denial\n    }\n\
                    \tkubernetes cluster.local 10.0.0.0/24 {\n        endpoint http://a:1\n    }\n\
                    \tforward . /etc/resolv.conf\n}\n";
        let migration = done(text);
        assert_eq!(migration, Migration { text: text.into(), ..Migration::default() });
    }

    #[test]
    fn a_corefile_of_2018() {
        let old = "\
.:53 {
    errors stdout  # all of them
    log stdout
    startup /bin/true
    kubernetes cluster.local 10.0.0.0/24 {
        resyncperiod 30s
        endpoint http://a:1 http://b:1
        transfer to 192.0.2.1 192.0.2.2
        pods insecure
        upstream /etc/resolv.conf
    }
    federation cluster.local {
        prod example.com
    }
    proxy . 192.0.2.3 192.0.2.4 {
        policy first
        protocol dns force_tcp
        fail_timeout 5s
        except corp.example
    }
}
";
        let new = "\
.:53 {
    errors  # all of them
    log
    on startup /bin/true
    kubernetes cluster.local 10.0.0.0/24 {
        # resyncperiod 30s
        endpoint http://a:1
        # transfer to 192.0.2.1 192.0.2.2
        pods insecure
        # upstream /etc/resolv.conf
    }
    transfer cluster.local 10.0.0.0/24 {
        to 192.0.2.1 192.0.2.2
    }
    ready
    # federation cluster.local {
        # prod example.com
    # }
    forward . 192.0.2.3 192.0.2.4 {
        policy sequential
        force_tcp
        # fail_timeout 5s
        except corp.example
    }
}
";
        let migration = done(old);
        assert_eq!(migration.text, new);
        assert_eq!(migration.left, Vec::<String>::new());
        let lines: Vec<u32> = migration
            .changes
            .iter()
            .map(|change| {
                change.split(':').nth(1).and_then(|line| line.parse().ok()).expect("a line")
            })
            .collect();
        assert_eq!(lines, [2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 16, 17, 18]);
        // What was made is what is made of it: nothing is changed twice.
        assert_eq!(done(new), Migration { text: new.into(), ..Migration::default() });
    }

    #[test]
    fn what_no_rule_can_do_is_told_and_stays() {
        let old = ". {\n proxy . 192.0.2.1 { protocol grpc\n }\n reverse 10.0.0.0/8 {\n }\n \
                   proxy . 192.0.2.1 { spray }\n}\n";
        let migration = done(old);
        assert_eq!(migration.text, old.replace("proxy", "forward"));
        assert_eq!(
            migration.left,
            [
                "Corefile:2: protocol: upstreams that speak gRPC are those of `grpc`",
                "Corefile:4: reverse: reverse is gone: write it as a template",
                "Corefile:6: spray: forward sprays when no upstream is healthy",
            ]
        );
    }

    #[test]
    fn a_snippet_is_changed_once_and_cidrs_become_arguments() {
        let old = "(k) {\n kubernetes cluster.local {\n  cidrs 10.0.0.0/8 10.1.0.0/16\n }\n}\n\
                   a {\n import k\n}\nb {\n import k\n}\n";
        let migration = done(old);
        assert!(
            migration.text.starts_with(
                "(k) {\n kubernetes cluster.local 10.0.0.0/8 10.1.0.0/16 {\n  # cidrs 10.0.0.0/8 "
            ),
            "{}",
            migration.text
        );
        assert_eq!(migration.changes.len(), 2, "and ready");
    }

    /// The Corefile of a release, what it becomes, and the lines that were told of.
    #[track_caller]
    fn becomes(old: &str, new: &str, told: &[u32], left: &[&str]) {
        let migration = done(old);
        assert_eq!(migration.text, new);
        let line = |change: &String| change.split(':').nth(1).and_then(|line| line.parse().ok());
        let lines: Vec<u32> = migration.changes.iter().filter_map(line).collect();
        assert_eq!(lines, told, "{:?}", migration.changes);
        assert_eq!(migration.left, left);
        // What was made stays.
        assert_eq!(done(new).text, new);
    }

    #[test]
    fn what_clusters_were_installed_with() {
        // Kubernetes 1.11 to 1.13.
        let old = ".:53 {\n    errors\n    health\n    kubernetes cluster.local in-addr.arpa {\n\
                   \x20       pods insecure\n        upstream\n\
                   \x20       fallthrough in-addr.arpa\n    }\n\
                   \x20   prometheus :9153\n    proxy . /etc/resolv.conf\n    cache 30\n}\n";
        let new = old
            .replace("        upstream", "        # upstream")
            .replace("in-addr.arpa\n    }\n", "in-addr.arpa\n    }\n    ready\n")
            .replace("proxy", "forward");
        becomes(old, &new, &[4, 6, 10], &[]);
        // Kubernetes 1.14 and 1.15.
        becomes(&old.replace("proxy", "forward"), &new, &[4, 6], &[]);
        // Kubernetes 1.16 to 1.20, and today: nothing to do.
        let later = new.replace("        # upstream\n", "");
        becomes(&later, &later, &[], &[]);
    }

    #[test]
    fn options_of_proxy_and_their_order() {
        becomes(
            ". {\n proxy . 192.0.2.1 {\n  policy least_conn\n  max_fails 2\n  \
             health_check /ok\n  spray\n  protocol https_google\n }\n}\n",
            ". {\n forward . 192.0.2.1 {\n  # policy least_conn\n  max_fails 2\n  \
             # health_check /ok\n  # spray\n  # protocol https_google\n }\n}\n",
            &[2, 3, 5, 6, 7],
            &[],
        );
        let why =
            "which takes its names, too: of several the first counts today, not the longest zone";
        becomes(
            ". {\n proxy a.test 192.0.2.2\n proxy . 192.0.2.1\n proxy b.test 192.0.2.3\n}\n",
            ". {\n forward a.test 192.0.2.2\n forward . 192.0.2.1\n forward b.test 192.0.2.3\n}\n",
            &[2, 3, 4],
            &[&format!("Corefile:4: proxy: put it above line 3, {why}")],
        );
    }

    #[test]
    fn zones_and_who_may_transfer_them() {
        becomes(
            "a {\n file db {\n  transfer to *\n  transfer to 192.0.2.1\n  no_reload\n  \
             upstream\n }\n}\n\
             b {\n auto {\n  directory d (.*) {1} 30\n  upstream 192.0.2.2\n }\n}\n",
            "a {\n file db {\n  # transfer to *\n  # transfer to 192.0.2.1\n  \
             reload 0\n  # upstream\n }\n transfer {\n     to * 192.0.2.1\n }\n}\n\
             b {\n auto {\n  directory d (.*) {1}\n  reload 30s\n  # upstream 192.0.2.2\n }\n}\n",
            &[3, 4, 5, 6, 11, 12],
            &["Corefile:12: upstream: add `forward . 192.0.2.2` for names outside"],
        );
        becomes(
            "a {\n secondary {\n  transfer from 192.0.2.1\n  transfer to 192.0.2.2\n }\n}\n",
            "a {\n secondary {\n  transfer from 192.0.2.1\n  # transfer to 192.0.2.2\n }\n \
             transfer {\n     to 192.0.2.2\n }\n}\n",
            &[4],
            &[],
        );
    }

    #[test]
    fn words_of_other_plugins() {
        becomes(
            ". {\n errors /var/log/e\n log . /var/log/q \"{when} {name}\"\n header {\n  set aa\n  \
             response clear ra\n }\n shutdown /bin/true\n etcd {\n  stubzones\n }\n}\n",
            ". {\n errors\n log . \"{when} {name}\"\n header {\n  response set aa\n  \
             response clear ra\n }\n on shutdown /bin/true\n etcd {\n  # stubzones\n }\n}\n",
            &[2, 3, 5, 8, 10],
            &["Corefile:3: {when} {name}: {when} is printed as it is today: take it out"],
        );
        becomes(
            "c.test {\n kubernetes {\n  endpoint http://a:1,http://b:1\n }\n ready\n}\n",
            "c.test {\n kubernetes {\n  endpoint http://a:1\n }\n ready\n}\n",
            &[3],
            &[],
        );
        // Without a zone, and with networks among them: as today.
        let same =
            "c.test 10.0.0.0/8 {\n kubernetes\n}\nd.test {\n kubernetes d.test 10.0.0.0/16\n}\n";
        becomes(same, same, &[], &[]);
    }

    #[test]
    fn what_cannot_be_read_is_left_to_do() {
        let old = ". {\n frob a.test\n whoami\n}\n";
        becomes(old, old, &[], &["Corefile:2:2: Unknown directive 'frob'"]);
        let torn = done(". {\n proxy . 192.0.2.1\n");
        assert_eq!(torn.left.len(), 1, "{torn:?}");
    }
}
