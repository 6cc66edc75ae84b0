//! # hosts
//!
//! Answers from a hosts file, and from such lines in the Corefile.
//!
//! ## Syntax
//!
//! ```text
//! hosts [FILE [ZONES...]] {
//!     ADDRESS NAME...
//!     ttl SECONDS
//!     no_reverse
//!     reload DURATION
//!     fallthrough [ZONES...]
//!     fallthrough_unsupported
//! }
//! ```
//!
//! * **FILE** has lines of an address and its names, `/etc/hosts` by default. A relative path starts
//!   at `root`. A file that does not exist is waited for. **ZONES** are the zones whose names are
//!   answered, by default the block's; names outside them are left out.
//! * Lines of the same form may stand in the block, before `fallthrough`. Their addresses follow
//!   those of the file.
//! * `ttl`: of all records, 1 to 65535 seconds, by default 3600.
//! * `no_reverse`: no PTR records are made.
//! * `reload`: how often the file is looked at (a Go duration, default 5s, 0 for never). It is read
//!   again when its time of change or its size is another.
//! * `fallthrough`: hand names without an entry to the plugins below, for all names or for those
//!   under **ZONES**. Without it they are answered SERVFAIL, since there is no zone whose SOA record
//!   could stand in a negative answer.
//! * `fallthrough_unsupported`: hand questions for types other than A, AAAA and PTR on too, for names
//!   that fall through. Without it a name with an entry has no data of these types.
//!
//! A name `*.example.org` stands for all names with one label more than `example.org` that have no
//! address of the family asked for of their own. No address leads back to it.
//!
//! PTR records are answered whatever the zones; an address without names goes to the plugins below.
//!
//! ## Metrics
//!
//! * `coredns_hosts_entries{hostsfile}`: names and addresses, of file and Corefile together.
//! * `coredns_hosts_reload_timestamp_seconds`: time of change of the file that was read last.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     hosts {
//!         192.0.2.1 gateway.example.org
//!         192.0.2.2 *.apps.example.org
//!         fallthrough
//!     }
//!     whoami
//! }
//! ```
//!
//! ```corefile
//! example.org {
//!     hosts /etc/hosts.example example.org {
//!         ttl 60
//!         reload 1m
//!         no_reverse
//!     }
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * Records are owned by the name in the letters that it was asked in (RFC 4343 section 4.1);
//!   CoreDNS answers in lower case.
//! * Words that are no domain names are left out of PTR records too.
//! * A file of more than 256 MiB or 4,000,000 entries is refused, and what was read before stays.

mod table;

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::site::Watched;
use super::{Compiled, CorefileError, Cx, Directive, Lines, Plugin, SetupError, Site, Step};
use crate::control::corefile::{Fallthrough, OptionLine, Place, parse_duration};
use crate::data::tally::{Family, Gauge, Tally, families};
use crate::limits::HOSTS_BYTES_MAX;
use crate::publish::{Published, Reader};
use crate::wire::{Full, Name, NameBuf, Question, Reply, Section, Suffixes};
use crate::wire::{rcode, reverse_address, rtype};
use table::{Reading, Table, count};

const OPTIONS: &[&str] = &["fallthrough", "fallthrough_unsupported", "no_reverse", "reload", "ttl"];
const TTL_MAX: u32 = 65_535;

static ENTRIES: Family = Family::gauge(
    "coredns_hosts_entries",
    &["hostsfile"],
    "Names and addresses held, of the hosts file and the Corefile together.",
);

/// The directive.
pub struct Hosts {
    path: PathBuf,
    /// Where the path stands, if it does.
    named: Option<Place>,
    zones: Vec<NameBuf>,
    inline: String,
    options: Options,
}

struct Options {
    ttl: u32,
    reverse: bool,
    reload: Duration,
    fallthrough: Fallthrough,
    unsupported: bool,
}

impl Directive for Hosts {
    const NAME: &'static str = "hosts";
    const CARRIED: bool = true;

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let stanza = lines.only_one()?;
        let file = stanza.args.first();
        let mut options = Options {
            ttl: 3600,
            reverse: true,
            reload: Duration::from_secs(5),
            fallthrough: Fallthrough::OFF,
            unsupported: false,
        };
        let mut inline = String::new();
        for option in &stanza.options {
            let known = options.read(lines, option)?;
            // A property after `fallthrough` must be one; before it, it is a line of a hosts file.
            if !known && options.fallthrough.zones().is_empty() {
                inline.push_str(&option.name.text);
                option.args.iter().for_each(|word| inline.extend([" ", &word.text]));
                inline.push('\n');
            } else if !known {
                return Err(lines.unknown_option(&option.name, OPTIONS));
            }
        }
        if options.unsupported && options.fallthrough.zones().is_empty() {
            let words = "fallthrough_unsupported requires fallthrough";
            return Err(lines.parse_err(&stanza.last, words));
        }
        Ok(Self {
            path: file.map_or_else(|| PathBuf::from("/etc/hosts"), |file| lines.path(&file.text)),
            named: file.map(|file| file.place.clone()),
            zones: lines.zones_of(stanza.args.get(1..).unwrap_or_default()),
            inline,
            options,
        })
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        if let Some(place) = &self.named {
            let fault = |message| SetupError { place: Some(place.clone()), message };
            self.examine().map_err(fault)?;
        }
        let zones = Arc::new(Suffixes::new(self.zones.iter().map(|zone| (*zone, ()))));
        let Options { ttl, reverse, reload, fallthrough, unsupported } = self.options;
        let reading = Reading { zones: &zones, ttl, reverse };
        let inline = Table::parse(&self.inline, &reading).map_err(SetupError::new)?;
        let mut file = HostsFile {
            path: self.path,
            reload,
            seen: None,
            zones: Arc::clone(&zones),
            ttl,
            reverse,
            inline: inline.entries(),
            tally: Arc::clone(site.tally),
            gauges: None,
        };
        let table = Arc::new(Published::new(file.read().unwrap_or_default()));
        let shown = Arc::clone(&table);
        site.watch(file, move |turns, fresh| shown.set(turns, fresh));
        Ok(Compiled::link(Link { table, inline, zones, ttl, fallthrough, unsupported }))
    }
}

impl Options {
    /// Reads one option; `false` if it is none.
    fn read(&mut self, lines: &Lines<'_>, option: &OptionLine) -> Result<bool, CorefileError> {
        let err = |words: String| Err(lines.parse_err(&option.name, words));
        match option.name.text.as_str() {
            "fallthrough" => self.fallthrough = lines.fallthrough(option),
            "fallthrough_unsupported" => {
                lines.no_args(option)?;
                self.unsupported = true;
            }
            "no_reverse" => self.reverse = false,
            "ttl" => {
                let Some(ttl) = option.args.first() else {
                    return err("ttl needs a time in second".into());
                };
                let Ok(ttl) = ttl.text.parse::<i64>() else {
                    return err("ttl needs a number of second".into());
                };
                match u32::try_from(ttl) {
                    Ok(ttl @ 1..=TTL_MAX) => self.ttl = ttl,
                    _ => return err("ttl provided is invalid".into()),
                }
            }
            "reload" => {
                let [time] = &option.args[..] else {
                    return err("reload needs a duration (zero seconds to disable)".into());
                };
                let text = &time.text;
                let negative = text.strip_prefix('-').is_some_and(|t| parse_duration(t).is_ok());
                self.reload = match parse_duration(text) {
                    Ok(reload) => reload,
                    Err(_) if negative => {
                        return err(format!("invalid negative duration for reload '{text}'"));
                    }
                    Err(_) => return err(format!("invalid duration for reload '{text}'")),
                };
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Hosts {
    /// Tells at the start what is wrong with the file that the Corefile names.
    fn examine(&self) -> Result<(), String> {
        let path = self.path.display();
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => {
                let path = path.to_string();
                tracing::warn!(target: "plugin/hosts", "Hosts file {path:?} is a directory");
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                tracing::warn!(target: "plugin/hosts", "File does not exist: {path}");
            }
            Err(error) => return Err(format!("unable to access hosts file '{path}': {error}")),
        }
        Ok(())
    }
}

/// A hosts file as it was read last.
struct HostsFile {
    path: PathBuf,
    reload: Duration,
    /// Time of change and size.
    seen: Option<(SystemTime, u64)>,
    zones: Arc<Suffixes<()>>,
    ttl: u32,
    reverse: bool,
    /// Entries of the Corefile.
    inline: usize,
    tally: Arc<Tally>,
    /// Entries, and time of change: from the first reading on.
    gauges: Option<[Gauge; 2]>,
}

impl HostsFile {
    /// Reads the file if it has changed. One that is not there, or cannot be read, changes nothing.
    fn read(&mut self) -> Option<Table> {
        let metadata = fs::metadata(&self.path).ok().filter(fs::Metadata::is_file)?;
        let seen = (metadata.modified().ok()?, metadata.len());
        if self.seen == Some(seen) {
            return None;
        }
        let path = self.path.display();
        if seen.1 > HOSTS_BYTES_MAX {
            self.seen = Some(seen);
            tracing::error!(target: "plugin/hosts", "{path}: more than {HOSTS_BYTES_MAX} octets");
            return None;
        }
        let text = fs::read(&self.path).ok()?;
        self.seen = Some(seen);
        let reading = Reading { zones: &self.zones, ttl: self.ttl, reverse: self.reverse };
        match Table::parse(&String::from_utf8_lossy(&text), &reading) {
            Ok(table) => {
                let entries = table.entries();
                tracing::debug!(target: "plugin/hosts", "Parsed hosts file into {entries} entries");
                self.show(entries + self.inline, seen.0);
                Some(table)
            }
            Err(error) => {
                tracing::error!(target: "plugin/hosts", "{path}: {error}");
                None
            }
        }
    }

    fn show(&mut self, entries: usize, changed: SystemTime) {
        let [held, time] = self.gauges.get_or_insert_with(|| {
            let path = self.path.display().to_string();
            let held = self.tally.gauge(&ENTRIES, &[&path]);
            [held, self.tally.gauge(&families::HOSTS_RELOADED, &[])]
        });
        held.set(entries as f64);
        let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
        time.set(since.as_secs_f64());
    }
}

impl Watched for HostsFile {
    type Table = Table;

    fn wait(&self) -> Option<Duration> {
        Some(self.reload).filter(|reload| !reload.is_zero())
    }

    fn look(&mut self, _all: bool) -> Option<Table> {
        self.read()
    }
}

/// The link.
pub struct Link {
    table: Arc<Published<Table>>,
    inline: Table,
    zones: Arc<Suffixes<()>>,
    ttl: u32,
    fallthrough: Fallthrough,
    unsupported: bool,
}

/// What the two tables, that of the file first, have for a question.
#[derive(Clone, Copy)]
enum Found<'t> {
    Records([&'t [u8]; 2]),
    Names([&'t [u8]; 2]),
    NoData,
    /// Nothing, and nothing of another type.
    Nothing,
    /// Not ours to answer.
    Other,
}

impl Link {
    fn find<'t>(&self, tables: [&'t Table; 2], question: Question<'_>) -> Found<'t> {
        let Question { lower, rtype, .. } = question;
        if rtype == rtype::PTR {
            let address = reverse_address(lower);
            let names = address.map(|address| tables.map(|table| table.names(address)));
            let names = names.filter(|[file, inline]| !file.is_empty() || !inline.is_empty());
            return names.map_or(Found::Other, Found::Names);
        }
        if self.zones.find(lower).is_none() {
            return Found::Other;
        }
        if matches!(rtype, rtype::A | rtype::AAAA) {
            let records = tables.map(|table| table.records(lower, rtype));
            if records.iter().any(|records| !records.is_empty()) {
                return Found::Records(records);
            }
        } else if self.unsupported && self.fallthrough.covers(lower) {
            return Found::Other;
        }
        let exists = tables.iter().any(|table| table.has(lower));
        if exists { Found::NoData } else { Found::Nothing }
    }

    /// Writes what was found.
    fn write(&self, found: Found<'_>, cx: &mut Cx<'_>) -> Result<(), Full> {
        let (question, reply) = cx.answer(true);
        match found {
            Found::Records(records) => {
                records.into_iter().filter(|records| !records.is_empty()).try_for_each(|records| {
                    let count = count(records, question.rtype);
                    reply.push_block(Section::Answer, records, count)
                })
            }
            Found::Names(names) => {
                names.into_iter().try_for_each(|names| self.write_names(names, question, reply))
            }
            Found::NoData | Found::Nothing | Found::Other => Ok(()),
        }
    }

    fn write_names(
        &self,
        mut names: &[u8],
        question: Question<'_>,
        reply: &mut Reply,
    ) -> Result<(), Full> {
        while let Ok((name, rest)) = Name::from_wire(names) {
            reply.push_name(Section::Answer, question.name, rtype::PTR, name, self.ttl)?;
            names = rest;
        }
        Ok(())
    }
}

impl Plugin for Link {
    type Frame = ();
    type Local = Reader<Table>;

    fn local(&self, _core: u16) -> Reader<Table> {
        self.table.reader()
    }

    fn refresh(&self, table: &mut Reader<Table>) {
        table.refresh();
    }

    fn serve(&self, table: &mut Reader<Table>, cx: &mut Cx<'_>) -> Step<()> {
        let found = self.find([table.get(), &self.inline], cx.question());
        match found {
            Found::Other => return Step::Next,
            Found::Nothing if self.fallthrough.covers(cx.question().lower) => return Step::Next,
            Found::Nothing => {
                cx.fail(rcode::SERVFAIL, format_args!(""));
                return Step::Up;
            }
            _ => {}
        }
        let mut written = self.write(found, cx);
        if written.is_err() && cx.enlarge() {
            written = self.write(found, cx);
        }
        if written.is_err() {
            // More than a message holds, or than there is room for now.
            let (_, reply) = cx.edit();
            reply.set_flags(reply.flags().with_tc(true));
        }
        Step::Up
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_block;
    use super::*;

    fn fault(block: &str) -> String {
        parse_block::<Hosts>(block).err().expect("refused")
    }

    #[test]
    fn options() {
        let hosts = parse_block::<Hosts>(
            "hosts /tmp/hosts a.test {\n ttl 65535\n no_reverse\n 192.0.2.1 x.a.test y\n \
             reload 0\n fallthrough\n fallthrough_unsupported\n}",
        )
        .expect("accepted");
        assert_eq!(hosts.path, PathBuf::from("/tmp/hosts"));
        assert_eq!(hosts.inline, "192.0.2.1 x.a.test y\n");
        assert_eq!(hosts.zones.len(), 1);
        let Options { ttl, reverse, reload, fallthrough, unsupported } = hosts.options;
        assert_eq!((ttl, reverse, reload, unsupported), (65_535, false, Duration::ZERO, true));
        assert!(fallthrough.is_on());
    }

    #[test]
    fn defaults() {
        let hosts = parse_block::<Hosts>("hosts").expect("accepted");
        assert_eq!((hosts.path.to_str(), hosts.named), (Some("/etc/hosts"), None));
        assert_eq!((hosts.options.ttl, hosts.options.reverse), (3600, true));
        assert_eq!(hosts.options.reload, Duration::from_secs(5));
        assert_eq!(hosts.zones[0].to_string(), "example.org.");
    }

    #[test]
    fn faults_in_coredns_words() {
        for (option, words) in [
            ("ttl", "ttl needs a time in second"),
            ("ttl x", "ttl needs a number of second"),
            ("ttl 0", "ttl provided is invalid"),
            ("ttl -1", "ttl provided is invalid"),
            ("ttl 65536", "ttl provided is invalid"),
            ("reload", "reload needs a duration (zero seconds to disable)"),
            ("reload 1s 2s", "reload needs a duration (zero seconds to disable)"),
            ("reload x", "invalid duration for reload 'x'"),
            ("reload -5s", "invalid negative duration for reload '-5s'"),
            ("fallthrough_unsupported", "fallthrough_unsupported requires fallthrough"),
            ("fallthrough\n 192.0.2.1 a.test", "unknown property '192.0.2.1'"),
            ("fallthrough_unsupported x", "Wrong argument count"),
        ] {
            let fault = fault(&format!("hosts {{\n {option}\n}}"));
            assert!(fault.contains(words), "{option}: {fault}");
        }
        assert!(fault("hosts a\nhosts b").contains("can only be used once per Server Block"));
    }
}
