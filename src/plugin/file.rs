//! # file
//!
//! Serves zones from zone files (RFC 1035 section 5).
//!
//! ## Syntax
//!
//! ```corefile
//! file DBFILE [ZONES...] {
//!     reload DURATION
//!     reload_by_mtime
//!     fallthrough [ZONES...]
//! }
//! ```
//!
//! * **DBFILE** is a zone file: all record types, `$ORIGIN`, `$TTL`, `$INCLUDE`, `$GENERATE`. A
//!   relative path starts at `root`. **ZONES** are the zones it is read for, by default the block's.
//! * `reload`: how often the file is looked at (a Go duration, default 1m, 0 for never). It is
//!   loaded again when the serial of its SOA record has changed. A file that is broken is told, and
//!   the zone goes on as it was. A file that does not exist at the start is waited for, its zone
//!   answers SERVFAIL meanwhile; with `reload 0` it is an error. A reload of the Corefile looks at
//!   once.
//! * `reload_by_mtime`: load again when the file's time of change has changed, whatever the serial.
//! * `fallthrough`: hand names that do not exist to the plugins below, for all names or for those
//!   under **ZONES**.
//!
//! `upstream` is accepted and means nothing: an alias that leads out of the zone is always asked for
//! through the server. Several `file` directives in a block add up; the longest zone wins.
//!
//! Signed zones are served as they are signed: signatures and NSEC or NSEC3 proofs for queries with
//! the DO bit (RFC 4035, RFC 5155).
//!
//! Metadata: `zone/wildcard`, the wildcard that an answer was made from.
//!
//! ## Examples
//!
//! ```corefile
//! example.org {
//!     file db.example.org {
//!         reload 10s
//!     }
//!     errors
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * Zones with NSEC3 are served with NSEC3 proofs (RFC 5155 section 7.2); CoreDNS refuses them.
//! * A name that exists only because there are names below it is never answered from a wildcard
//!   (RFC 4592 section 2.2.2).
//! * The TTL of a negative answer's SOA is at most its MINIMUM field (RFC 2308 section 3).
//! * A question for ANY is answered with one of the name's record sets (RFC 8482 section 4.1); CoreDNS
//!   says that there are none.
//! * The SOA record has to stand at the zone's apex (RFC 1035 section 5.2); CoreDNS takes one from
//!   anywhere in the file.
//! * `$GENERATE`, all types of the registry and unknown types (RFC 3597) are read.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::authority::{Authority, Table, Zones};
use super::{Compiled, CorefileError, Directive, Lines, SetupError, Site, site};
use crate::control::corefile::{Fallthrough, Place, Stanza, format_duration};
use crate::limits::HUGE_PAGES_FILE_BYTES_MIN;
use crate::sys;
use crate::wire::NameBuf;
use crate::zone::{Zone, ZoneError};

const OPTIONS: &[&str] = &["reload", "reload_by_mtime", "fallthrough", "upstream"];

/// The directive: all its uses in a block.
pub struct File {
    sources: Vec<Source>,
    fallthrough: Fallthrough,
}

/// A zone file with the zones that it is read for.
struct Source {
    path: PathBuf,
    origins: Vec<NameBuf>,
    reload: Duration,
    by_mtime: bool,
    place: Place,
}

impl Directive for File {
    const NAME: &'static str = "file";
    const CARRIED: bool = true;

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut fallthrough = Fallthrough::default();
        let (mut reload, mut by_mtime) = (Duration::from_secs(60), false);
        let mut sources = Vec::new();
        for stanza in lines.stanzas() {
            let mut source = source(lines, stanza)?;
            for option in &stanza.options {
                match option.name.text.as_str() {
                    "fallthrough" => fallthrough = lines.fallthrough(option),
                    "reload_by_mtime" => {
                        lines.alone(option)?;
                        by_mtime = true;
                    }
                    "upstream" => {}
                    "reload" => {
                        let Some(time) = option.args.first() else {
                            let words = "reload duration value is expected";
                            return Err(lines.err(&option.name, words));
                        };
                        reload = lines.duration(time)?;
                    }
                    _ => return Err(lines.unknown_option(&option.name, OPTIONS)),
                }
            }
            // An option of one use holds for those after it, as in CoreDNS.
            (source.reload, source.by_mtime) = (reload, by_mtime);
            sources.push(source);
        }
        Ok(Self { sources, fallthrough })
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let mut files = Vec::new();
        for source in &self.sources {
            for origin in &source.origins {
                let mut file = Watched {
                    path: source.path.clone(),
                    origin: *origin,
                    by_mtime: source.by_mtime,
                    reload: source.reload,
                    changed: None,
                    zone: None,
                };
                file.load_first()
                    .map_err(|message| SetupError { place: Some(source.place.clone()), message })?;
                files.push(file);
            }
        }
        let files = Files::new(files);
        let zones = Table::new(files.table());
        let shown = Arc::clone(&zones);
        site.watch(files, move |turns, fresh| shown.set(turns, fresh));
        Ok(Compiled::link(Authority::new(Self::NAME, zones, self.fallthrough)))
    }
}

fn source(lines: &Lines<'_>, stanza: &Stanza) -> Result<Source, CorefileError> {
    let Some((path, zones)) = stanza.args.split_first() else {
        return Err(lines.arg_err(&stanza.name));
    };
    Ok(Source {
        path: lines.path(&path.text),
        origins: lines.zones_of(zones),
        reload: Duration::ZERO,
        by_mtime: false,
        place: path.place.clone(),
    })
}

/// The zone files of a block, each with the time when it is to be looked at again.
struct Files(Vec<(Option<Instant>, Watched)>);

impl Files {
    fn new(files: Vec<Watched>) -> Self {
        let now = Instant::now();
        let due = |file: Watched| (file.due(now), file);
        Self(files.into_iter().map(due).collect())
    }

    /// Their zones; of several files for the same zone the last one counts.
    fn table(&self) -> Zones {
        let mut zones: Vec<(NameBuf, Option<Arc<Zone>>)> = Vec::new();
        for (_, file) in &self.0 {
            zones.retain(|(origin, _)| *origin != file.origin);
            zones.push((file.origin, file.zone.clone()));
        }
        Zones::new(zones)
    }
}

impl site::Watched for Files {
    type Table = Zones;

    fn wait(&self) -> Option<Duration> {
        let next = self.0.iter().filter_map(|(due, _)| *due).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn look(&mut self, all: bool) -> Option<Zones> {
        let now = Instant::now();
        let mut changed = false;
        for (due, file) in &mut self.0 {
            if all || due.is_some_and(|due| due <= now) {
                *due = file.due(now);
                changed |= file.look();
            }
        }
        changed.then(|| self.table())
    }
}

/// A zone file as it was loaded last.
pub(super) struct Watched {
    pub(super) path: PathBuf,
    pub(super) origin: NameBuf,
    by_mtime: bool,
    reload: Duration,
    changed: Option<SystemTime>,
    pub(super) zone: Option<Arc<Zone>>,
}

impl Watched {
    /// A file that was loaded, and is loaded again when its serial changes.
    pub(super) fn loaded(path: PathBuf, origin: NameBuf, zone: Zone) -> Self {
        let zone = Some(Arc::new(zone));
        Self { path, origin, by_mtime: false, reload: Duration::ZERO, changed: None, zone }
    }

    /// When it is to be looked at again, having been looked at `now`.
    fn due(&self, now: Instant) -> Option<Instant> {
        (!self.reload.is_zero()).then(|| now + self.reload)
    }

    /// Loads at the start, when a broken file is an error.
    fn load_first(&mut self) -> Result<(), String> {
        self.changed = modified(&self.path);
        if self.path.metadata().is_ok_and(|file| file.len() >= HUGE_PAGES_FILE_BYTES_MIN) {
            sys::allow_huge_pages();
        }
        match Zone::load(&self.path, &self.origin) {
            Ok(zone) => self.zone = Some(Arc::new(zone)),
            // Not what will be there some day: something else is in its place.
            Err(ZoneError::Read(path, error)) if error.kind() == ErrorKind::IsADirectory => {
                let (path, origin) = (path.display(), self.origin.to_string());
                return Err(format!(
                    "failed to parse file \"{path}\" for origin {origin} with error read {path}: \
                     is a directory"
                ));
            }
            Err(error @ ZoneError::Read(..)) if !self.reload.is_zero() => {
                let again = format_duration(self.reload);
                tracing::warn!(
                    target: "plugin/file",
                    "Failed to open {:?}: trying again in {again}", error.to_string()
                );
            }
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    /// Loads what has changed; `true` if the zone is another.
    pub(super) fn look(&mut self) -> bool {
        let changed = modified(&self.path);
        if self.by_mtime && changed == self.changed {
            return false;
        }
        let served = self.zone.as_ref().filter(|_| !self.by_mtime).map(|zone| zone.serial());
        match Zone::load_if_changed(&self.path, &self.origin, served) {
            Ok(Some(zone)) => {
                tracing::info!(
                    target: "plugin/file",
                    "Successfully reloaded zone {:?} in {:?} with {} SOA serial",
                    self.origin.to_string(),
                    self.path.display().to_string(),
                    zone.serial()
                );
                self.changed = changed;
                self.zone = Some(Arc::new(zone));
                true
            }
            Ok(None) => false,
            Err(error) => {
                let origin = self.origin.to_string();
                tracing::error!(target: "plugin/file", "Parsing zone {origin:?}: {error}");
                false
            }
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}
