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
    /// At the first option, or at the directive if its block is empty.
    pub fn no_block(&self, stanza: &Stanza) -> Result<(), CorefileError> {
        match stanza.options.first() {
            Some(option) => Err(self.unknown_option(&option.name, &[])),
            None if stanza.has_block => {
                Err(self.parse_err(&stanza.name, "Unexpected token '{', expecting argument"))
            }
            None => Ok(()),
        }
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
    /// `parsing "x": invalid syntax`, or `x is not between MIN and MAX`.
    pub fn number<T>(&self, token: &Token, range: RangeInclusive<T>) -> Result<T, CorefileError>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Ok(number) = token.text.parse::<T>() else {
            return Err(self.err(token, format!("parsing {:?}: invalid syntax", token.text)));
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
