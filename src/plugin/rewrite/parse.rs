//! The rules, as the Corefile has them.

use regex::Regex;

use super::names::{Change, Names, Part as Piece, Replacement};
use super::options::{Action, Data, OptionRule, code_of};
use super::rule::{Answer, Back, Does, NameRule, Part, Rule};
use crate::control::corefile::{Stanza, Token};
use crate::limits::REGEXP_BYTES_MAX;
use crate::plugin::{CorefileError, Lines};
use crate::regexp;
use crate::wire::{NameBuf, rclass, rcode, rtype};

/// The longest TTL that a range without an end allows, in seconds (RFC 2181 section 8).
const TTL_MAX: u32 = i32::MAX as u32;

const FIELDS: &[&str] = &["name", "class", "type", "edns0", "ttl", "cname", "rcode"];
const ACTIONS: &[&str] = &["append", "replace", "set", "unset"];
const KINDS: &[&str] = &["exact", "prefix", "suffix", "substring", "regex"];

/// What is read of one directive, and what its rules have in common.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) rules: Vec<Rule>,
    pub(super) patterns: Vec<Regex>,
    pub(super) labels: Vec<Box<str>>,
}

/// The words of one rule.
struct Words<'l> {
    lines: &'l Lines<'l>,
    /// Where an error is that is no word's.
    place: &'l Token,
    /// The rule's own word.
    word: &'l Token,
    field: String,
}

impl Words<'_> {
    fn err(&self, message: impl Into<String>) -> CorefileError {
        self.lines.err(self.place, message)
    }
}

impl Draft {
    pub(super) fn read(&mut self, lines: &Lines<'_>, stanza: &Stanza) -> Result<(), CorefileError> {
        let mut args: Vec<&Token> = stanza.args.iter().collect();
        if args.len() < 2 {
            for option in &stanza.options {
                args.push(&option.name);
                args.extend(&option.args);
            }
        } else if stanza.has_block {
            // CoreDNS reads the block as a rule of its own.
            let message = "no rule type specified for rewrite: a block after a whole rule";
            return Err(lines.err(&stanza.name, message));
        }
        let place = *args.last().unwrap_or(&&stanza.name);
        let lower = |at: usize| args.get(at).map(|word| word.text.to_lowercase());
        let (stops, start) = match lower(0).as_deref() {
            None => return Err(lines.err(place, "no rule type specified for rewrite")),
            Some("continue") => (false, 1),
            Some("stop") => (true, 1),
            Some(_) => (true, 0),
        };
        let Some(field) = lower(start) else {
            let mode = lower(0).unwrap_or_default();
            return Err(lines.err(place, format!("{mode} rule must begin with a rule type")));
        };
        let words = Words { lines, place, word: args[start], field };
        let does = self.does(&words, &args[start + 1..])?;
        self.rules.push(Rule { stops, does });
        Ok(())
    }

    fn does(&mut self, words: &Words<'_>, args: &[&Token]) -> Result<Does, CorefileError> {
        Ok(match (words.field.as_str(), args) {
            ("answer", _) => {
                return Err(words.err("response rewrites must begin with a name rule"));
            }
            ("name", _) => Does::Name(Box::new(self.name_rule(words, args)?)),
            ("class", [from, to]) => {
                Does::Class { from: class(words, from)?, to: class(words, to)? }
            }
            ("type", [from, to]) => Does::Type { from: kind(words, from)?, to: kind(words, to)? },
            (field @ ("class" | "type"), _) => {
                return Err(words.err(format!("{field} rules must have exactly two arguments")));
            }
            ("edns0", _) => Does::Option(self.option_rule(words, args)?),
            ("ttl", _) => self.ttl_rule(words, args)?,
            ("cname", _) => Does::Cname(Box::new(self.cname_rule(words, args)?)),
            ("rcode", _) => self.rcode_rule(words, args)?,
            (other, _) => {
                let message = format!("invalid rule type {:?}", words.word.text);
                let error = words.lines.err(words.word, message);
                return Err(error.suggesting(other, FIELDS));
            }
        })
    }

    /// Keeps an expression and gives its number.
    fn pattern(&mut self, regex: Regex) -> usize {
        self.patterns.push(regex);
        self.patterns.len() - 1
    }

    fn name_rule(&mut self, words: &Words<'_>, args: &[&Token]) -> Result<NameRule, CorefileError> {
        let (how, from, to, rest) = match args {
            [from, to] => ("exact".to_owned(), from, to, &[][..]),
            [how, from, to, rest @ ..] => (how.text.to_lowercase(), from, to, rest),
            _ => return Err(words.err("too few arguments for a name rule")),
        };
        if !KINDS.contains(&how.as_str()) {
            let kinds = "exact, prefix, suffix, substring, and regex";
            let message = format!("name rule supports only {kinds} name matching, received: {how}");
            return Err(words.err(message).suggesting(&how, KINDS));
        }
        let (auto, answers) = self.answer_rules(words, &how, rest)?;
        let change = match how.as_str() {
            "regex" => self.regex_change(words.lines, from, to, &normal(&to.text))?,
            // As in CoreDNS, though no expression is made of it.
            "exact" if regexp::compile(&to.text).is_err() => {
                let message = format!("invalid regex matching pattern: {}", to.text);
                return Err(words.lines.err(to, message));
            }
            how => change(how, &normal(&from.text), &normal(&to.text)),
        };
        let back = match how.as_str() {
            "exact" => Back::Name,
            "suffix" if auto => {
                Back::Suffix(self::change("suffix", &normal(&to.text), &normal(&from.text)).into())
            }
            _ if auto => Back::Name,
            _ => Back::Not,
        };
        Ok(NameRule { change, back, answers })
    }

    /// `FROM` and `TO` where `FROM` is an expression; `text` is what `TO` means.
    fn regex_change(
        &mut self,
        lines: &Lines<'_>,
        from: &Token,
        to: &Token,
        text: &str,
    ) -> Result<Change, CorefileError> {
        let regex = regexp::compile(&from.text).map_err(|why| {
            let message = match from.text.len() > REGEXP_BYTES_MAX {
                true => why,
                false => format!("invalid regex matching pattern: {}: {why}", from.text),
            };
            lines.err(from, message)
        })?;
        let groups = regex.captures_len();
        let used = (0..=100).filter(|group| to.text.contains(&format!("{{{group}}}"))).count();
        if used >= groups {
            let message = format!(
                "the rewrite regex pattern ({}) uses more subexpressions than its corresponding \
                 matching regex pattern ({})",
                to.text, from.text
            );
            return Err(lines.err(to, message));
        }
        let from = Names::Regex(self.pattern(regex));
        Ok(Change { from, to: Replacement::Parts(Piece::parse(text, groups)) })
    }

    /// What follows a name rule: whether replies are changed back, and how else.
    fn answer_rules(
        &mut self,
        words: &Words<'_>,
        how: &str,
        args: &[&Token],
    ) -> Result<(bool, Vec<Answer>), CorefileError> {
        let (mut auto, mut answers) = (false, Vec::new());
        if let [only] = args {
            return Err(words.lines.err(only, format!("invalid arguments for {how} rule")));
        }
        let mut rest = args;
        let mut is_first = true;
        while let Some((word, tail)) = rest.split_first() {
            if word.text == "answer" {
                rest = tail;
            } else if is_first {
                let message = format!(
                    "exceeded the number of arguments for a non-answer rule argument for {how} rule"
                );
                return Err(words.lines.err(word, message));
            }
            is_first = false;
            let Some((kind, tail)) = rest.split_first() else {
                return Err(words.err(format!("type missing for answer rule for {how} rule")));
            };
            rest = tail;
            let part = match kind.text.as_str() {
                "auto" => {
                    auto = true;
                    continue;
                }
                "name" => Part::Owner,
                "value" => Part::Value,
                other => {
                    let message = format!("invalid type {other:?} for answer rule for {how} rule");
                    let error = words.lines.err(kind, message);
                    return Err(error.suggesting(other, &["auto", "name", "value"]));
                }
            };
            let [from, to, tail @ ..] = rest else {
                let kind = &kind.text;
                let message = format!("{kind} answer rule for {how} rule: 2 arguments required");
                return Err(words.err(message));
            };
            rest = tail;
            let change = self.regex_change(words.lines, from, to, &normal(&to.text))?;
            answers.push(Answer { part, change });
        }
        if auto && answers.iter().any(|answer| answer.part == Part::Owner) {
            let message = "auto name answer rule cannot be combined with explicit name anwer rules";
            return Err(words.err(message));
        }
        Ok((auto, answers))
    }

    /// The names that a rule about the reply is for; `how` may be left out.
    fn names(
        &mut self,
        words: &Words<'_>,
        how: Option<&Token>,
        name: &Token,
    ) -> Result<Names, CorefileError> {
        let field = &words.field;
        let how = how.map_or("exact".to_owned(), |how| how.text.to_lowercase());
        match how.as_str() {
            "regex" => {
                let regex = regexp::compile(&name.text).map_err(|why| {
                    let message = match name.text.len() > REGEXP_BYTES_MAX {
                        true => why.replacen("too long", &format!("too long in a {field} rule"), 1),
                        false => {
                            let text = &name.text;
                            format!("invalid regex pattern in a {field} rule: {text}: {why}")
                        }
                    };
                    words.lines.err(name, message)
                })?;
                Ok(Names::Regex(self.pattern(regex)))
            }
            how if KINDS.contains(&how) => Ok(change(how, &normal(&name.text), "").from),
            how => {
                let kinds = "exact, prefix, suffix, substring, and regex";
                let message = format!("{field} rule supports only {kinds} name matching");
                Err(words.err(message).suggesting(how, KINDS))
            }
        }
    }

    fn ttl_rule(&mut self, words: &Words<'_>, args: &[&Token]) -> Result<Does, CorefileError> {
        let (how, name, ttl) = match args {
            [name, ttl] => (None, name, ttl),
            [how, name, ttl] => (Some(*how), name, ttl),
            [] | [_] => {
                let count = args.len();
                return Err(words.err(format!("too few ({count}) arguments for a ttl rule")));
            }
            _ => return Err(words.err("invalid TTL '' for a ttl rule: too many arguments")),
        };
        let Some((least, most)) = ttl_range(&ttl.text) else {
            let message = format!("invalid TTL '{}' for a ttl rule", ttl.text);
            return Err(words.lines.err(ttl, message));
        };
        Ok(Does::Ttl { of: self.names(words, how, name)?, least, most })
    }

    fn rcode_rule(&mut self, words: &Words<'_>, args: &[&Token]) -> Result<Does, CorefileError> {
        let (how, name, from, to) = match args {
            [name, from, to] => (None, name, from, to),
            [how, name, from, to] => (Some(*how), name, from, to),
            [] | [_] | [_, _] => {
                let count = args.len();
                return Err(words.err(format!("too few ({count}) arguments for a rcode rule")));
            }
            _ => {
                let message = "invalid matching RCODE '' for a rcode rule: too many arguments";
                return Err(words.err(message));
            }
        };
        let read = |token: &Token, what: &str| {
            parse_rcode(&token.text).ok_or_else(|| {
                let message = format!("invalid {what} RCODE '{}' for a rcode rule", token.text);
                words.lines.err(token, message)
            })
        };
        let (from, to) = (read(from, "matching")?, read(to, "replacement")?);
        Ok(Does::Rcode { of: self.names(words, how, name)?, from, to })
    }

    fn cname_rule(&mut self, words: &Words<'_>, args: &[&Token]) -> Result<Change, CorefileError> {
        let (how, from, to) = match args {
            [from, to] => ("exact".to_owned(), from, to),
            [how, from, to] => (how.text.to_lowercase(), from, to),
            _ => {
                let count = args.len();
                return Err(words.err(format!("too few ({count}) arguments for a cname rule")));
            }
        };
        let (lower_from, lower_to) = (from.text.to_lowercase(), to.text.to_lowercase());
        match how.as_str() {
            "exact" => Ok(change("exact", &normal(&from.text), &normal(&to.text))),
            "regex" => {
                // CoreDNS lowers the letters of the expression, and so of its classes.
                let regex = match from.text.len() > REGEXP_BYTES_MAX {
                    true => regexp::compile(&from.text),
                    false => regexp::compile(&format!("(?i){}", from.text)),
                };
                let regex = regex.map_err(|why| {
                    let message = match from.text.len() > REGEXP_BYTES_MAX {
                        true => why.replacen("too long", "too long in a cname rule", 1),
                        false => format!("invalid cname rewrite regex pattern: {why}"),
                    };
                    words.lines.err(from, message)
                })?;
                let groups = regex.captures_len();
                let from = Names::Regex(self.pattern(regex));
                Ok(Change { from, to: Replacement::Parts(Piece::parse(&lower_to, groups)) })
            }
            how if KINDS.contains(&how) => Ok(change(how, &lower_from, &lower_to)),
            how => {
                let error = words.err(format!("unknown cname rewrite type: {how}"));
                Err(error.suggesting(how, KINDS))
            }
        }
    }

    fn option_rule(
        &mut self,
        words: &Words<'_>,
        args: &[&Token],
    ) -> Result<OptionRule, CorefileError> {
        let [kind, action, rest @ ..] = args else {
            return Err(words.err("too few arguments for an EDNS0 rule"));
        };
        let (kind, action) = (kind.text.to_lowercase(), action.text.to_lowercase());
        let action = match action.as_str() {
            "append" => Action::Append,
            "replace" => Action::Replace,
            "set" => Action::Set,
            "unset" => return unset_rule(words, &kind, rest),
            other => {
                let error = words.err(format!("invalid action: {other:?}"));
                return Err(error.suggesting(other, ACTIONS));
            }
        };
        let (revert, rest) = match rest {
            [rest @ .., last] if last.text == "revert" => (true, rest),
            rest => (false, rest),
        };
        let (code, data) = match (kind.as_str(), rest) {
            ("local", [code, data]) => {
                (go_number(words.lines, code)?, self.local_data(words.lines, data)?)
            }
            ("local", _) => return Err(words.err("EDNS0 local rules require three or four args")),
            ("nsid", []) => (code_of("nsid"), Data::Octets(Box::default())),
            ("nsid", _) => {
                return Err(words.err("EDNS0 NSID rules can accept no more than one arg"));
            }
            ("subnet", [v4, v6]) => {
                let v4 = mask(words.lines, v4, "IPv4", 32)?;
                (code_of("subnet"), Data::Subnet(v4, mask(words.lines, v6, "IPv6", 128)?))
            }
            ("subnet", _) => {
                return Err(words.err("EDNS0 subnet rules require three or four args"));
            }
            (other, _) => return Err(no_kind(words, other)),
        };
        Ok(OptionRule { action, code, data, revert })
    }

    /// The data of a local option: a variable, octets in hexadecimal form, or text.
    fn local_data(&mut self, lines: &Lines<'_>, token: &Token) -> Result<Data, CorefileError> {
        let text = token.text.as_str();
        if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            return Ok(match name {
                "qname" => Data::Name,
                "qtype" => Data::Type,
                "client_ip" => Data::ClientAddress,
                "client_port" => Data::ClientPort,
                "protocol" => Data::Protocol,
                "server_ip" => Data::ServerAddress,
                "server_port" => Data::ServerPort,
                // There is something on either side of the first slash.
                label if matches!(label.find('/'), Some(at) if at > 0 && at + 1 < label.len()) => {
                    self.labels.push(label.into());
                    Data::Label(self.labels.len() - 1)
                }
                _ => return Err(lines.err(token, format!("unsupported variable name {text:?}"))),
            });
        }
        let Some(hex) = text.strip_prefix("0x") else {
            return Ok(Data::Octets(text.as_bytes().into()));
        };
        if let Some(bad) = hex.chars().find(|c| !c.is_ascii_hexdigit()) {
            let message = format!("encoding/hex: invalid byte: U+{:04X} '{bad}'", bad as u32);
            return Err(lines.err(token, message));
        }
        let pairs = hex.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Some(hex_value(*high) << 4 | hex_value(*low)),
            _ => None,
        });
        let octets: Option<Box<[u8]>> = pairs.collect();
        let odd = || lines.err(token, "encoding/hex: odd length hex string");
        Ok(Data::Octets(octets.ok_or_else(odd)?))
    }
}

fn hex_value(digit: u8) -> u8 {
    char::from(digit).to_digit(16).unwrap_or(0) as u8
}

fn unset_rule(words: &Words<'_>, kind: &str, rest: &[&Token]) -> Result<OptionRule, CorefileError> {
    let code = match (kind, rest) {
        ("local", [code]) => go_number(words.lines, code)?,
        ("local", _) => {
            return Err(words.err("local unset action requires exactly two arguments"));
        }
        ("nsid" | "subnet", []) => code_of(kind),
        ("nsid" | "subnet", _) => {
            return Err(words.err(format!("{kind} unset action requires exactly one argument")));
        }
        (other, _) => return Err(no_kind(words, other)),
    };
    let data = Data::Octets(Box::default());
    Ok(OptionRule { action: Action::Unset, code, data, revert: false })
}

fn no_kind(words: &Words<'_>, kind: &str) -> CorefileError {
    let error = words.err(format!("invalid rule type {kind:?}"));
    error.suggesting(kind, &["local", "nsid", "subnet"])
}

/// CoreDNS's `Normalize`: lower case, with a final dot.
fn normal(text: &str) -> String {
    let mut text = text.to_lowercase();
    let backslashes =
        text.strip_suffix('.').map(|head| head.len() - head.trim_end_matches('\\').len());
    if backslashes.is_none_or(|count| count % 2 == 1) {
        text.push('.');
    }
    text
}

/// A change of this kind, which is none of the expressions.
fn change(how: &str, from: &str, to: &str) -> Change {
    let zone = |text: &str| match text {
        "." => Some(NameBuf::root()),
        text => NameBuf::parse(text.strip_prefix('.')?).ok(),
    };
    let text = |text: &str| text.into();
    let (from, to) = match how {
        "exact" => {
            let to = NameBuf::parse(to).ok().map(Box::new);
            return Change {
                from: Names::Exact(NameBuf::parse(from).ok()),
                to: Replacement::Name(to),
            };
        }
        "suffix" => match (zone(from), zone(to)) {
            (Some(from), Some(to)) if !from.as_name().is_root() => {
                return Change { from: Names::Below(from), to: Replacement::Name(Some(to.into())) };
            }
            _ => (Names::Suffix(text(from)), to),
        },
        "prefix" => (Names::Prefix(text(from)), to),
        _ => (Names::Substring(text(from)), to),
    };
    Change { from, to: Replacement::Text(text(to)) }
}

fn class(words: &Words<'_>, token: &Token) -> Result<u16, CorefileError> {
    let upper = token.text.to_uppercase();
    let found = rclass::parse(&upper).filter(|number| rclass::name(*number) == Some(&upper));
    found.ok_or_else(|| words.lines.err(token, format!("invalid class {upper:?}")))
}

fn kind(words: &Words<'_>, token: &Token) -> Result<u16, CorefileError> {
    let upper = token.text.to_uppercase();
    let found = rtype::parse(&upper).filter(|number| rtype::name(*number) == Some(&upper));
    found.ok_or_else(|| words.lines.err(token, format!("invalid type {upper:?}")))
}

fn parse_rcode(text: &str) -> Option<u16> {
    let upper = text.to_uppercase();
    match upper.as_str() {
        "NOTIMPL" => Some(rcode::NOTIMP),
        _ if is_digits(text) => text.parse().ok().filter(|number| *number <= rcode::BADCOOKIE),
        _ => rcode::parse(&upper).filter(|number| rcode::name(*number) == Some(&upper)),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit())
}

/// `SECONDS`, `MIN-MAX`, `MIN-` or `-MAX`.
fn ttl_range(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| is_digits(text));
    let (least, most) = match text.split_once('-') {
        None => (number(text)?, number(text)?),
        Some(("", "")) => return None,
        Some(("", most)) => (0, number(most)?),
        Some((least, "")) => (number(least)?, TTL_MAX),
        Some((least, most)) => (number(least)?, number(most)?),
    };
    (least <= most).then_some((least, most))
}

/// A number of at most 16 bits in one of Go's forms: `0xffee`, `0o17`, `0b11`, `017`, `65518`.
fn go_number(lines: &Lines<'_>, token: &Token) -> Result<u16, CorefileError> {
    let lower = token.text.to_lowercase();
    let (digits, base) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (&lower[..], 10),
    };
    let valid = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(base));
    u16::from_str_radix(digits, base).ok().filter(|_| valid).ok_or_else(|| {
        let why = if valid { "value out of range" } else { "invalid syntax" };
        lines.err(token, format!("strconv.ParseUint: parsing {:?}: {why}", token.text))
    })
}

fn mask(lines: &Lines<'_>, token: &Token, what: &str, most: u8) -> Result<u8, CorefileError> {
    let bits = go_number(lines, token)?;
    let bits = u8::try_from(bits).ok().filter(|bits| *bits <= most);
    bits.ok_or_else(|| lines.err(token, format!("invalid {what} bit mask length {}", token.text)))
}
