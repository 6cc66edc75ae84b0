//! What a plugin reads its directive from.
//!
//! `Lines` holds all uses of one directive in one server block, in file order, as CoreDNS's
//! controller does, and readers for the words that many plugins share. Every error carries place
//! and plugin, and CoreDNS's words.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::duration::parse_duration;
use super::error::CorefileError;
use super::key;
use super::lexer::Token;
use super::tree::{OptionLine, Stanza};
use super::{ServerBlock, zones_of_text};
use crate::wire::{Name, NameBuf};

/// A word and its arguments: a `Stanza`'s first line, or an `OptionLine`.
pub trait Line {
    /// The directive's or the option's name.
    fn word(&self) -> &Token;
    /// What follows it on its line.
    fn args(&self) -> &[Token];
}

impl Line for Stanza {
    fn word(&self) -> &Token {
        &self.name
    }

    fn args(&self) -> &[Token] {
        &self.args
    }
}

impl Line for OptionLine {
    fn word(&self) -> &Token {
        &self.name
    }

    fn args(&self) -> &[Token] {
        &self.args
    }
}

/// All uses of a directive in its server block.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    plugin: &'static str,
    block: &'a ServerBlock,
    stanzas: Vec<&'a Stanza>,
    root: Option<&'a Path>,
}

impl<'a> Lines<'a> {
    /// The uses of the directive `plugin` in `block`; `root` is what the block's `root` says.
    pub fn new(block: &'a ServerBlock, plugin: &'static str, root: Option<&'a Path>) -> Self {
        Self { plugin, block, stanzas: block.uses(plugin).collect(), root }
    }

    /// Each use, in file order.
    pub fn stanzas(&self) -> &[&'a Stanza] {
        &self.stanzas
    }

    /// The server block that the directive stands in.
    pub fn block(&self) -> &'a ServerBlock {
        self.block
    }

    /// Zones of the block's keys.
    pub fn zones(&self) -> &'a [NameBuf] {
        &self.block.zones
    }

    /// The directive's name.
    pub fn plugin(&self) -> &'static str {
        self.plugin
    }

    /// What the block's `root` says.
    pub fn root(&self) -> Option<&'a Path> {
        self.root
    }

    /// `text` as a path, below `root` if it is relative.
    pub fn path(&self, text: &str) -> PathBuf {
        match self.root {
            Some(root) => root.join(text),
            None => PathBuf::from(text),
        }
    }

    /// The one use.
    ///
    /// # Errors
    /// At the second use, with the words of CoreDNS's `plugin.ErrOnce`.
    pub fn only_one(&self) -> Result<&'a Stanza, CorefileError> {
        match self.stanzas[..] {
            [only] => Ok(only),
            [_, second, ..] => {
                Err(self.err(&second.name, "this plugin can only be used once per Server Block"))
            }
            [] => Err(CorefileError::plain(Some(self.block.place.clone()), "directive is missing")
                .of(self.plugin)),
        }
    }

    //--- Errors ---

    /// `message`, at a token; CoreDNS prints such without a place.
    pub fn err(&self, at: &Token, message: impl Into<String>) -> CorefileError {
        CorefileError::plain(Some(at.place.clone()), message).of(self.plugin)
    }

    /// `message`, at a token; CoreDNS prints such with file and line (`c.Errf`).
    pub fn parse_err(&self, at: &Token, message: impl Into<String>) -> CorefileError {
        CorefileError::parsing(&at.place, message).of(self.plugin)
    }

    /// Too few or too many arguments, noticed at a token (`c.ArgErr`).
    pub fn arg_err(&self, at: &Token) -> CorefileError {
        if at.text == "{" {
            return self.parse_err(at, "Unexpected token '{', expecting argument");
        }
        let text = &at.text;
        self.parse_err(at, format!("Wrong argument count or unexpected line ending after '{text}'"))
    }

    /// A word in the place of an option that is none of `known`.
    pub fn unknown_option(&self, at: &Token, known: &[&str]) -> CorefileError {
        self.parse_err(at, format!("unknown property '{}'", at.text)).suggesting(&at.text, known)
    }

    //--- Counts of arguments ---

    /// No arguments.
    ///
    /// # Errors
    /// `arg_err` at the first argument.
    pub fn no_args(&self, line: &impl Line) -> Result<(), CorefileError> {
        line.args().first().map_or(Ok(()), |extra| Err(self.arg_err(extra)))
    }

    /// No block.
    ///
    /// # Errors
    /// At the directive.
    pub fn no_block(&self, stanza: &Stanza) -> Result<(), CorefileError> {
        match stanza.has_block {
            true => Err(self.parse_err(&stanza.name, "Unexpected token '{', expecting argument")),
            false => Ok(()),
        }
    }

    /// An option without a value.
    ///
    /// # Errors
    /// At what follows it: CoreDNS takes that for one more option.
    pub fn alone(&self, option: &OptionLine) -> Result<(), CorefileError> {
        option.args.first().map_or(Ok(()), |extra| Err(self.unknown_option(extra, &[])))
    }

    /// Exactly one argument.
    ///
    /// # Errors
    /// `arg_err`.
    pub fn one_arg<'l>(&self, line: &'l impl Line) -> Result<&'l Token, CorefileError> {
        self.at_most_one(line)?.ok_or_else(|| self.arg_err(line.word()))
    }

    /// One argument or none.
    ///
    /// # Errors
    /// `arg_err` at the second.
    pub fn at_most_one<'l>(&self, line: &'l impl Line) -> Result<Option<&'l Token>, CorefileError> {
        match line.args() {
            [_, extra, ..] => Err(self.arg_err(extra)),
            args => Ok(args.first()),
        }
    }

    /// One argument or more.
    ///
    /// # Errors
    /// `arg_err` at the option's name.
    pub fn some_args<'l>(&self, line: &'l impl Line) -> Result<&'l [Token], CorefileError> {
        match line.args() {
            [] => Err(self.arg_err(line.word())),
            args => Ok(args),
        }
    }

    //--- Values ---

    /// A Go duration, with a unit.
    ///
    /// # Errors
    /// In the words of Go's `time.ParseDuration`.
    pub fn duration(&self, token: &Token) -> Result<Duration, CorefileError> {
        parse_duration(&token.text).map_err(|message| self.err(token, message))
    }

    /// A Go duration; a bare number is seconds.
    ///
    /// # Errors
    /// As `duration`.
    pub fn seconds_or_duration(&self, token: &Token) -> Result<Duration, CorefileError> {
        match token.text.parse::<u32>() {
            Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
            Err(_) => self.duration(token),
        }
    }

    /// A decimal number within `range`.
    ///
    /// # Errors
    /// In the words of Go's `Atoi`, or for numbers without a sign of its `ParseUint`; or
    /// `x is not between MIN and MAX`.
    pub fn number<T>(&self, token: &Token, range: RangeInclusive<T>) -> Result<T, CorefileError>
    where
        T: FromStr + PartialOrd + Display,
    {
        let text = token.text.as_str();
        let signed = "-1".parse::<T>().is_ok();
        let number = text.parse::<T>().ok().filter(|_| signed || !text.starts_with('+'));
        let Some(number) = number else {
            let function = if signed { "Atoi" } else { "ParseUint" };
            return Err(self.err(token, no_number(function, text)));
        };
        if range.contains(&number) {
            return Ok(number);
        }
        let (least, most) = range.into_inner();
        Err(self.err(token, format!("{number} is not between {least} and {most}")))
    }

    /// `[ZONES…]`: the zones that `args` name, CIDRs expanded; the block's zones if there are no
    /// arguments. Arguments that name no zone are left out, as CoreDNS does.
    pub fn zones_of(&self, args: &[Token]) -> Vec<NameBuf> {
        if args.is_empty() {
            return self.block.zones.clone();
        }
        args.iter().flat_map(|arg| zones_of_text(&arg.text)).collect()
    }

    /// A domain name, lower case.
    ///
    /// # Errors
    /// `not a valid domain name`.
    pub fn name(&self, token: &Token) -> Result<NameBuf, CorefileError> {
        NameBuf::parse(&token.text)
            .map(|name| NameBuf::lowered(name.as_name()))
            .map_err(|_| self.err(token, format!("not a valid domain name: {:?}", token.text)))
    }

    /// The zones of a `fallthrough` line.
    pub fn fallthrough(&self, line: &OptionLine) -> Fallthrough {
        if line.args.is_empty() {
            return Fallthrough { zones: Some(vec![NameBuf::root()]) };
        }
        let zones = line.args.iter().flat_map(|arg| zones_of_text(&arg.text)).collect();
        Fallthrough { zones: Some(zones) }
    }

    /// `ADDRESS/BITS`.
    ///
    /// # Errors
    /// In the words of Go's `net.ParseCIDR`.
    pub fn cidr(&self, token: &Token) -> Result<(IpAddr, u8), CorefileError> {
        key::cidr(&token.text)
            .ok_or_else(|| self.err(token, format!("invalid CIDR address: {}", token.text)))
    }

    /// An IP address.
    ///
    /// # Errors
    /// `not a valid IP address`.
    pub fn ip(&self, token: &Token) -> Result<IpAddr, CorefileError> {
        let refuse = |_| self.err(token, format!("not a valid IP address: {:?}", token.text));
        token.text.parse().map_err(refuse)
    }

    /// `on` or `off`.
    ///
    /// # Errors
    /// At any other word.
    pub fn on_off(&self, token: &Token) -> Result<bool, CorefileError> {
        match token.text.as_str() {
            "on" => Ok(true),
            "off" => Ok(false),
            other => Err(self
                .parse_err(token, format!("expected on or off, got '{other}'"))
                .suggesting(other, &["on", "off"])),
        }
    }
}

/// Which names a plugin hands on when it has no answer for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fallthrough {
    /// None: no name. The root in it: every name.
    zones: Option<Vec<NameBuf>>,
}

impl Fallthrough {
    /// No `fallthrough` in the Corefile: nothing is handed on.
    pub const OFF: Self = Self { zones: None };

    /// Every name is handed on.
    pub fn all() -> Self {
        Self { zones: Some(vec![NameBuf::root()]) }
    }

    /// `name`, in lower case, is handed on.
    pub fn covers(&self, name: Name<'_>) -> bool {
        self.zones.iter().flatten().any(|zone| name.is_under(zone.as_name()))
    }

    /// There was a `fallthrough` line.
    pub fn is_on(&self) -> bool {
        self.zones.is_some()
    }

    /// The zones whose names are handed on.
    pub fn zones(&self) -> &[NameBuf] {
        self.zones.as_deref().unwrap_or_default()
    }
}

/// What a function of Go's `strconv` says of a word that is no number, or one too large.
pub fn no_number(function: &str, text: &str) -> String {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let digits = if function == "Atoi" { digits.strip_prefix('+').unwrap_or(digits) } else { text };
    let is_number = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
    let why = if is_number { "value out of range" } else { "invalid syntax" };
    format!("strconv.{function}: parsing {text:?}: {why}")
}

#[cfg(test)]
mod tests {
    use super::super::{Corefile, Directives, Input, load};
    use super::*;

    fn read(text: &str) -> Corefile {
        let input = Input::Text { name: "Corefile".into(), text: text.into() };
        let names = ["cache", "log"];
        load(input, Directives { known: &names, built: &names }, &|_| None, 53).expect("accepted")
    }

    /// What `f` says of the directive `cache` of a block `a.org b.org { TEXT }`.
    fn with<T>(text: &str, f: impl FnOnce(&Lines<'_>) -> T) -> T {
        let corefile = read(&format!("a.org b.org {{\n{text}\n}}\n"));
        f(&Lines::new(&corefile.blocks[0], "cache", Some(Path::new("/etc/dns"))))
    }

    fn fault<T: std::fmt::Debug>(result: Result<T, CorefileError>) -> String {
        result.expect_err("refused").to_string()
    }

    fn texts(zones: &[NameBuf]) -> Vec<String> {
        zones.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn uses_of_a_directive() {
        with("cache 1\nlog\ncache 2", |lines| {
            assert_eq!(lines.stanzas().len(), 2);
            assert_eq!(
                fault(lines.only_one()),
                "Corefile:4:1: cache: this plugin can only be used once per Server Block"
            );
        });
        with("cache 1\nlog", |lines| {
            assert_eq!(lines.only_one().expect("one").args[0].text, "1");
            assert_eq!(texts(lines.zones()), ["a.org.", "b.org."]);
            assert_eq!(lines.path("x/y"), Path::new("/etc/dns/x/y"));
            assert_eq!(lines.path("/x"), Path::new("/x"));
        });
    }

    #[test]
    fn counts_of_arguments() {
        with("cache\ncache 1\ncache 1 2\ncache {\n}\ncache {\n x\n}", |lines| {
            let [none, one, two, empty, block] = lines.stanzas() else { panic!("five") };
            let words = "cache: Wrong argument count or unexpected line ending after";
            assert!(lines.no_args(*none).is_ok() && lines.at_most_one(*none).is_ok());
            assert_eq!(lines.one_arg(*one).expect("one").text, "1");
            assert_eq!(fault(lines.one_arg(*none)), format!("Corefile:2:1: {words} 'cache'"));
            assert_eq!(fault(lines.some_args(*none)), format!("Corefile:2:1: {words} 'cache'"));
            assert_eq!(fault(lines.no_args(*one)), format!("Corefile:3:7: {words} '1'"));
            assert_eq!(fault(lines.at_most_one(*two)), format!("Corefile:4:9: {words} '2'"));
            assert_eq!(lines.some_args(*two).expect("two").len(), 2);
            assert!(lines.no_block(two).is_ok());
            assert!(fault(lines.no_block(empty)).starts_with("Corefile:5:1: cache: Unexpected"));
            assert!(fault(lines.no_block(block)).starts_with("Corefile:7:1: cache: Unexpected"));
        });
    }

    #[test]
    fn values() {
        with("cache 5s 5 300 10.0.0.0/8 10.0.0.1 off x WWW.a.", |lines| {
            let args = &lines.stanzas()[0].args;
            let [dur, five, big, net, address, off, x, name] = &args[..] else { panic!("eight") };
            assert_eq!(lines.duration(dur), Ok(Duration::from_secs(5)));
            assert_eq!(lines.seconds_or_duration(dur), Ok(Duration::from_secs(5)));
            assert_eq!(lines.seconds_or_duration(five), Ok(Duration::from_secs(5)));
            assert!(fault(lines.duration(five)).ends_with("time: missing unit in duration \"5\""));
            assert_eq!(lines.number(big, 0..=300_u16), Ok(300));
            assert!(
                fault(lines.number(big, 0..=255_u16)).ends_with("300 is not between 0 and 255")
            );
            assert!(
                fault(lines.number(x, 0..=1_u8))
                    .ends_with("strconv.ParseUint: parsing \"x\": invalid syntax")
            );
            assert!(
                fault(lines.number(big, 0..=1_i8))
                    .ends_with("strconv.Atoi: parsing \"300\": value out of range")
            );
            assert_eq!(lines.cidr(net).map(|(_, bits)| bits), Ok(8));
            assert!(fault(lines.cidr(address)).ends_with("invalid CIDR address: 10.0.0.1"));
            assert!(lines.ip(address).is_ok());
            assert!(fault(lines.ip(net)).ends_with("not a valid IP address: \"10.0.0.0/8\""));
            assert_eq!(lines.on_off(off), Ok(false));
            assert!(fault(lines.on_off(x)).ends_with("expected on or off, got 'x'"));
            assert_eq!(lines.name(name).map(|name| name.to_string()), Ok("www.a.".to_owned()));
        });
    }

    #[test]
    fn zones_and_fallthrough() {
        with(
            "cache X.org 10.0.0.0/23 a..b dns://y:54 {\n fallthrough\n fallthrough Z.org\n}",
            |lines| {
                let stanza = lines.stanzas()[0];
                assert_eq!(
                    texts(&lines.zones_of(&stanza.args)),
                    ["x.org.", "0.0.10.in-addr.arpa.", "1.0.10.in-addr.arpa.", "y."]
                );
                assert_eq!(texts(&lines.zones_of(&[])), ["a.org.", "b.org."]);
                let covers = |fall: &Fallthrough, name: &str| {
                    fall.covers(NameBuf::parse(name).expect("a name").as_name())
                };
                let all = lines.fallthrough(&stanza.options[0]);
                let some = lines.fallthrough(&stanza.options[1]);
                assert!(
                    covers(&all, "any.") && covers(&some, "a.z.org.") && covers(&some, "z.org.")
                );
                assert!(!covers(&some, "az.org.") && !covers(&Fallthrough::OFF, "z.org."));
                assert!(all == Fallthrough::all() && all.is_on() && !Fallthrough::OFF.is_on());
            },
        );
    }
}
