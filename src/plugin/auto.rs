//! # auto
//!
//! Serves every zone file (RFC 1035 section 5) of a directory, and follows files that come and go.
//!
//! ## Syntax
//!
//! ```corefile
//! auto [ZONES...] {
//!     directory DIR [REGEXP TEMPLATE]
//!     reload DURATION
//! }
//! ```
//!
//! * **ZONES**: names outside them are left to the plugins below, by default the block's.
//! * `directory`: files of **DIR**, and of directories below it, whose name **REGEXP** matches are
//!   zone files. The zone's name is **TEMPLATE**, in which `{1}` stands for what the first group of
//!   the expression matched; by default `db\.(.*)` and `{1}`: `db.example.org` is the zone
//!   example.org. The expression is Go's, not anchored, has at least one group and at most 10,000
//!   octets. A relative path starts at `root`, where files are looked for without this line. DIR may be a symbolic link, directories below it may
//!   not. Of several files for one zone the first in order of their paths is served.
//! * `reload`: how often the directory is looked at (a Go duration, default 60s, 0 for never): new
//!   files are served, those that are gone no more. A zone is loaded again when the serial of its SOA
//!   record has changed; if its file is broken it goes on as it was. A reload of the Corefile looks
//!   at once.
//!
//! `upstream` is accepted and means nothing. A name in none of the zones is for the plugins below;
//! where there are none it is REFUSED.
//!
//! Zones are served as by `file`.
//!
//! ## Examples
//!
//! ```corefile
//! org net {
//!     auto {
//!         directory /etc/coredns/zones
//!         reload 30s
//!     }
//! }
//! ```
//!
//! ```corefile
//! . {
//!     auto example.org {
//!         directory zones (.*)\.zone {1}
//!     }
//!     errors
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * Those of `file`.
//! * While a directory cannot be read, no zone is taken away; CoreDNS drops all of its zones.
//! * The `zone` label of metrics is the zone of the server block, as for every other plugin.
//! * At most 100,000 files in 32 levels of directories are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

use super::authority::{Authority, Table, Zones};
use super::file::Watched;
use super::{Compiled, CorefileError, Directive, Lines, SetupError, Site, site};
use crate::control::corefile::{Fallthrough, OptionLine, Place};
use crate::limits::{AUTO_DEPTH_MAX, AUTO_FILES_MAX, REGEXP_BYTES_MAX};
use crate::regexp;
use crate::wire::NameBuf;
use crate::zone::{Zone, ZoneError};

const OPTIONS: &[&str] = &["directory", "reload", "upstream"];

/// The directive: the last of its uses in a block, with what those before it have set.
pub struct Auto {
    /// Zones outside which nothing is answered, where they are not the block's.
    within: Option<Vec<NameBuf>>,
    directory: PathBuf,
    /// Where the directory stands, if it does.
    place: Option<Place>,
    pattern: Pattern,
    reload: Duration,
}

impl Directive for Auto {
    const NAME: &'static str = "auto";
    const CARRIED: bool = true;

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut auto = Self {
            within: None,
            directory: lines.path("."),
            place: None,
            pattern: Pattern::usual().map_err(|message| CorefileError::plain(None, message))?,
            reload: Duration::from_secs(60),
        };
        for stanza in lines.stanzas() {
            auto.within = (!stanza.args.is_empty()).then(|| lines.zones_of(&stanza.args));
            for option in &stanza.options {
                match option.name.text.as_str() {
                    "directory" => auto.read_directory(lines, option)?,
                    "upstream" => {}
                    "reload" => {
                        let Some(time) = option.args.first() else {
                            let words = "reload duration value is expected";
                            return Err(lines.err(&option.name, words));
                        };
                        if time.text.starts_with('-') {
                            return Err(lines.err(time, "invalid duration"));
                        }
                        auto.reload = lines.duration(time)?;
                    }
                    _ => return Err(lines.unknown_option(&option.name, OPTIONS)),
                }
            }
        }
        Ok(auto)
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        if let Some(place) = &self.place {
            let fault = |message| SetupError { place: Some(place.clone()), message };
            self.examine().map_err(fault)?;
        }
        let mut directory = Directory {
            path: self.directory,
            pattern: self.pattern,
            reload: self.reload,
            zones: BTreeMap::new(),
        };
        directory.walk();
        let zones = Table::new(directory.table());
        let shown = Arc::clone(&zones);
        site.watch(directory, move |turns, fresh| shown.set(turns, fresh));
        let mut link = Authority::new(Self::NAME, zones, Fallthrough::OFF);
        if let Some(within) = self.within {
            link = link.within(within);
        }
        Ok(Compiled::link(link))
    }
}

impl Auto {
    /// Reads `directory DIR [REGEXP TEMPLATE]`.
    fn read_directory(
        &mut self,
        lines: &Lines<'_>,
        option: &OptionLine,
    ) -> Result<(), CorefileError> {
        let (directory, pattern) = match &option.args[..] {
            [] => return Err(lines.arg_err(&option.name)),
            [directory] => (directory, None),
            [directory, regexp, rest @ ..] => (directory, Some((regexp, rest))),
        };
        self.directory = lines.path(&directory.text);
        self.place = Some(directory.place.clone());
        let Some((regexp, rest)) = pattern else { return Ok(()) };
        if regexp.text.len() > REGEXP_BYTES_MAX {
            return Err(lines.parse_err(regexp, "regexp too large"));
        }
        let compiled = regexp::compile(&regexp.text).map_err(|why| lines.err(regexp, why))?;
        if compiled.captures_len() == 1 {
            return Err(lines.parse_err(regexp, "Need at least one sub expression"));
        }
        match rest {
            [] => Err(lines.arg_err(regexp)),
            [template] => {
                self.pattern = Pattern::new(compiled, &template.text);
                Ok(())
            }
            [_, extra, ..] => Err(lines.arg_err(extra)),
        }
    }

    /// Tells at the start what is wrong with the directory.
    fn examine(&self) -> Result<(), String> {
        let path = self.directory.display();
        match fs::metadata(&self.directory) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                tracing::warn!(target: "plugin/auto", "Directory does not exist: {path}");
            }
            Err(error) => return Err(format!("Unable to access root path '{path}': {error}")),
        }
        Ok(())
    }
}

/// Which files are zone files, and of which zones.
struct Pattern {
    regexp: Regex,
    /// In Go's form and the crate's: `${1}`.
    template: String,
}

impl Pattern {
    fn usual() -> Result<Self, String> {
        Ok(Self::new(regexp::compile(r"db\.(.*)")?, "{1}"))
    }

    fn new(regexp: Regex, template: &str) -> Self {
        Self { regexp, template: template.replace('{', "${") }
    }

    /// The zone of the file `name`, if it is a zone file.
    fn origin(&self, name: &str) -> Option<String> {
        let groups = self.regexp.captures(name)?;
        let mut origin = String::new();
        groups.expand(&self.template, &mut origin);
        (!origin.is_empty()).then_some(origin)
    }
}

/// A directory as it was looked at last.
struct Directory {
    path: PathBuf,
    pattern: Pattern,
    reload: Duration,
    /// By name in presentation form.
    zones: BTreeMap<String, Watched>,
}

impl Directory {
    /// The zones to be served.
    fn table(&self) -> Zones {
        Zones::new(self.zones.values().map(|file| (file.origin, file.zone.clone())))
    }

    /// Loads what is new or has changed and forgets what is gone; `true` if there was any of it.
    fn walk(&mut self) -> bool {
        let directory = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut files = Vec::new();
        let is_whole = list(&directory, 0, &mut files);
        let mut changed = false;
        let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
        for path in files {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(origin) = self.pattern.origin(&name) else { continue };
            let apex = match NameBuf::parse(&origin) {
                Ok(apex) => NameBuf::lowered(apex.as_name()),
                Err(why) => {
                    tracing::warn!(target: "plugin/auto", "Parse zone `{origin}': {why}");
                    continue;
                }
            };
            let origin = apex.to_string();
            if let Some(first) = seen.get(&origin) {
                tell_double(&origin, first, &path);
                continue;
            }
            changed |= self.take(&origin, apex, &path);
            seen.insert(origin, path);
        }
        if is_whole {
            let gone: BTreeSet<String> =
                self.zones.keys().filter(|origin| !seen.contains_key(*origin)).cloned().collect();
            for origin in &gone {
                self.zones.remove(origin);
                tracing::info!(target: "plugin/auto", "Deleting zone `{origin}'");
            }
            changed |= !gone.is_empty();
        }
        changed
    }

    /// Loads the zone from the file, if it is new or has changed.
    fn take(&mut self, origin: &str, apex: NameBuf, path: &Path) -> bool {
        if let Some(file) = self.zones.get_mut(origin) {
            path.clone_into(&mut file.path);
            return file.look();
        }
        let shown = path.display();
        match Zone::load(path, &apex) {
            Ok(zone) => {
                let file = Watched::loaded(path.to_owned(), apex, zone);
                self.zones.insert(origin.to_owned(), file);
                tracing::info!(target: "plugin/auto", "Inserting zone `{origin}' from: {shown}");
                return true;
            }
            Err(error @ ZoneError::Read(..)) => {
                tracing::warn!(target: "plugin/auto", "Opening {shown} failed: {error}");
            }
            Err(error) => {
                tracing::warn!(target: "plugin/auto", "Parse zone `{origin}': {error}");
            }
        }
        false
    }
}

impl site::Watched for Directory {
    type Table = Zones;

    fn wait(&self) -> Option<Duration> {
        Some(self.reload).filter(|reload| !reload.is_zero())
    }

    fn look(&mut self, _all: bool) -> Option<Zones> {
        self.walk().then(|| self.table())
    }
}

fn tell_double(origin: &str, first: &Path, second: &Path) {
    let (first, second) = (first.display().to_string(), second.display().to_string());
    tracing::warn!(
        target: "plugin/auto",
        "Multiple zone files match origin {origin:?}: using {first:?} instead of {second:?}"
    );
}

/// Lists the files of a directory and those below it, in the order of their names. Symbolic links
/// are files, whatever they lead to. `false`: some may be missing.
fn list(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> bool {
    let shown = directory.display();
    if depth > AUTO_DEPTH_MAX {
        tracing::warn!(target: "plugin/auto", "error reading {shown}: too many levels");
        return false;
    }
    let mut is_whole = true;
    let mut tell = |error: std::io::Error| {
        tracing::warn!(target: "plugin/auto", "error reading {shown}: {error}");
        // What is not there has no files.
        is_whole &= error.kind() == ErrorKind::NotFound;
    };
    let mut entries: Vec<DirEntry> = Vec::new();
    match fs::read_dir(directory) {
        Ok(found) => found.for_each(|entry| match entry {
            Ok(entry) => entries.push(entry),
            Err(error) => tell(error),
        }),
        Err(error) => tell(error),
    }
    entries.sort_by_key(DirEntry::file_name);
    for entry in entries {
        if files.len() >= AUTO_FILES_MAX {
            tracing::warn!(target: "plugin/auto", "error reading {shown}: too many files");
            return false;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            is_whole &= list(&entry.path(), depth + 1, files);
        } else {
            files.push(entry.path());
        }
    }
    is_whole
}

#[cfg(test)]
mod tests {
    use super::super::parse_block;
    use super::*;

    fn pattern(regexp: &str, template: &str) -> Pattern {
        Pattern::new(regexp::compile(regexp).expect("a pattern"), template)
    }

    #[test]
    fn names_of_files_become_names_of_zones() {
        for (regexp, template, file, origin) in [
            (r"db\.(.*)", "{1}", "db.example.org", Some("example.org")),
            (r"db\.(.*)", "{1}", "xdb.example.org", Some("example.org")),
            (r"db\.(.*)", "{1}", "dbexample.org", None),
            (r"db\.(.*)", "{1}", "db.", None),
            (r"(.*)\.zone", "{1}", "example.org.zone", Some("example.org")),
            (r"(.*)_(.*)", "{2}.{1}", "org_example", Some("example.org")),
            (r"(?P<z>.*)\.db", "{z}.test", "a.db", Some("a.test")),
            (r"db\.(.*)", "$1", "db.a", Some("a")),
            (r"db\.(.*)", "{2}", "db.a", None),
        ] {
            let found = pattern(regexp, template).origin(file);
            assert_eq!(found.as_deref(), origin, "{regexp} {template} {file}");
        }
    }

    #[test]
    fn options() {
        let auto = parse_block::<Auto>(
            "auto a.test {\n directory /zones (.*)\\.zone {1}.test\n upstream\n}\n\
             auto b.test {\n reload 0\n}",
        )
        .expect("accepted");
        assert_eq!(auto.directory, PathBuf::from("/zones"));
        assert_eq!(auto.pattern.template, "${1}.test");
        assert!(auto.reload.is_zero());
        assert_eq!(auto.within.expect("zones")[0].to_string(), "b.test.", "the last use counts");
    }

    #[test]
    fn faults_in_coredns_words() {
        for (option, words) in [
            ("directory", "Wrong argument count"),
            ("directory d (.*)", "Wrong argument count"),
            ("directory d (.*) {1} x", "Wrong argument count"),
            ("directory d .* {1}", "Need at least one sub expression"),
            ("directory d (.* {1}", "error parsing regexp"),
            ("reload", "reload duration value is expected"),
            ("reload -1s", "invalid duration"),
            ("reload 5", "missing unit in duration"),
            ("no_reload", "unknown property 'no_reload'"),
        ] {
            let fault = parse_block::<Auto>(&format!("auto {{\n {option}\n}}"));
            let fault = fault.err().expect("refused");
            assert!(fault.contains(words), "{option}: {fault}");
        }
        let long = format!("auto {{\n directory d ({}) {{1}}\n}}", "a".repeat(REGEXP_BYTES_MAX));
        let fault = parse_block::<Auto>(&long).err().expect("refused");
        assert!(fault.contains("regexp too large"), "{fault}");
    }
}
