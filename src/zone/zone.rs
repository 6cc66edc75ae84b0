//! A zone, ready to answer: what `file`, `auto`, `secondary` and the cloud plugins share.

use super::build::{ZoneBuilder, strip};
use super::dnssec::Denial;
use super::index::{At, Index, Node, Owner, Set, Spelled};
use super::scan::{ScanError, reason, scan};
use super::tail::Tail;
use crate::wire::{Name, NameBuf};
use std::fmt;
use std::path::{Path, PathBuf};

/// An immutable zone.
#[derive(Debug)]
pub struct Zone {
    pub(super) apex: Box<[u8]>,
    pub(super) index: Index,
    /// The NS records of the apex, for the authority section.
    pub(super) ns: Tail,
    pub(super) ns_signatures: Tail,
    /// The SOA record with the TTL of negative answers.
    pub(super) negative: Tail,
    pub(super) negative_signatures: Tail,
    pub(super) denial: Denial,
    /// Labels of the deepest name, the zone's left out.
    pub(super) depth: usize,
    soa: Soa,
    records: usize,
    ignored: u64,
}

/// The start of authority (RFC 1035 section 3.3.13). Times are in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Soa {
    /// TTL of the record itself.
    pub ttl: u32,
    /// Name of the primary server.
    pub mname: NameBuf,
    /// Mailbox of who is responsible.
    pub rname: NameBuf,
    /// Version of the zone.
    pub serial: u32,
    /// How often a secondary asks.
    pub refresh: u32,
    /// How long it waits after a failure.
    pub retry: u32,
    /// How long it serves without an answer.
    pub expire: u32,
    /// TTL of negative answers (RFC 2308 section 4).
    pub minimum: u32,
}

/// Why there is no zone.
#[derive(Debug)]
pub enum ZoneError {
    /// The file could not be opened or read.
    Read(PathBuf, std::io::Error),
    /// Something in the file is wrong.
    Parse {
        /// The file that was to be loaded; the fault may be in one that it includes.
        path: PathBuf,
        /// The zone, in presentation form.
        origin: String,
        /// What was wrong, and where.
        error: Box<ScanError>,
    },
    /// There is no SOA record at the zone's apex.
    NoSoa {
        /// Whether there was one somewhere else.
        elsewhere: bool,
    },
    /// As `NoSoa`, with the file and the zone.
    NoSoaIn {
        /// The file.
        path: PathBuf,
        /// The zone, in presentation form.
        origin: String,
        /// Whether there was one somewhere else.
        elsewhere: bool,
    },
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ZoneError::Read(path, error) => {
                write!(f, "open {}: {}", path.display(), reason(error))
            }
            ZoneError::Parse { path, origin, error } => {
                let path = path.display();
                write!(f, "failed to parse file \"{path}\" for origin {origin} with error {error}")
            }
            ZoneError::NoSoa { .. } => f.write_str("no SOA record at the apex"),
            ZoneError::NoSoaIn { path, origin, .. } => {
                write!(f, "file \"{}\" has no SOA record for origin {origin}", path.display())
            }
        }
    }
}

impl std::error::Error for ZoneError {}

/// Said to the scanner to stop: the serial is the one that is served already.
const UNCHANGED: &str = "no change in SOA serial";

impl Zone {
    /// Loads the zone `origin` from the zone file at `path`. Not for the query path.
    pub fn load(path: &Path, origin: &NameBuf) -> Result<Zone, ZoneError> {
        let zone = Self::load_if_changed(path, origin, None)?;
        zone.ok_or(ZoneError::NoSoa { elsewhere: false })
    }

    /// As `load`, but reads no further than a SOA record with the serial `served`: then None.
    pub fn load_if_changed(
        path: &Path,
        origin: &NameBuf,
        served: Option<u32>,
    ) -> Result<Option<Zone>, ZoneError> {
        let read = |error| ZoneError::Read(path.to_owned(), error);
        let text = std::fs::read(path).map_err(read)?;
        let mut builder = ZoneBuilder::new(origin, text.len());
        let mut sink = |entry: &super::scan::Entry<'_>| {
            builder.push(entry.owner, entry.rtype, entry.ttl, entry.rdata)?;
            let is_served = entry.rtype == 6 && served.is_some() && builder.serial() == served;
            if is_served { Err(UNCHANGED) } else { Ok(()) }
        };
        match scan(&text, path, origin.as_name().as_bytes(), &mut sink) {
            Ok(()) => {}
            Err(ScanError::Fault(_, fault)) if fault.what == UNCHANGED => return Ok(None),
            Err(error) => {
                let (path, origin) = (path.to_owned(), origin.to_string());
                return Err(ZoneError::Parse { path, origin, error: Box::new(error) });
            }
        }
        drop(text);
        builder.finish().map(Some).map_err(|error| match error {
            ZoneError::NoSoa { elsewhere } => {
                ZoneError::NoSoaIn { path: path.to_owned(), origin: origin.to_string(), elsewhere }
            }
            other => other,
        })
    }

    pub(super) fn assemble(
        apex: Vec<u8>,
        index: Index,
        denial: Denial,
        records: usize,
        ignored: u64,
    ) -> Result<Zone, ZoneError> {
        let missing = ZoneError::NoSoa { elsewhere: false };
        let Some(node) = index.find(&[]) else { return Err(missing) };
        let Some(set) = node.set(SOA) else { return Err(missing) };
        let Some(soa) = Soa::read(&set, Owner { prefix: &[], apex: &apex }) else {
            return Err(missing);
        };
        let negative_ttl = Some(soa.ttl.min(soa.minimum));
        let tail = |set: Option<Set<'_>>, covers, ttl| {
            set.map_or_else(Tail::default, |set| Tail::new(&set, covers, apex.len(), ttl))
        };
        let ns = tail(node.set(NS), 0, None);
        let ns_signatures = tail(node.signatures(NS), NS, None);
        let negative = tail(Some(set), 0, negative_ttl);
        let negative_signatures = tail(node.signatures(SOA), SOA, negative_ttl);
        let mut depth = 0;
        let mut at = 0;
        while let Some(node) = index.next_from(at) {
            depth = depth.max(super::index::label_starts(node.prefix()).count() - 1);
            at = node.after();
        }
        let apex = apex.into_boxed_slice();
        Ok(Zone {
            apex,
            index,
            ns,
            ns_signatures,
            negative,
            negative_signatures,
            denial,
            depth,
            soa,
            records,
            ignored,
        })
    }

    /// The zone's name, in lower case.
    pub fn apex(&self) -> Name<'_> {
        // It was a valid name when the zone was made.
        Name::from_wire(&self.apex).map_or(Name::ROOT, |(name, _)| name)
    }

    /// The start of authority.
    pub fn soa(&self) -> &Soa {
        &self.soa
    }

    /// The version of the zone.
    pub fn serial(&self) -> u32 {
        self.soa.serial
    }

    /// Records held.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Records that were left out because they are not in the zone.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Names held, empty non-terminals among them.
    pub fn names(&self) -> usize {
        self.index.nodes()
    }

    /// Octets of memory held.
    pub fn bytes(&self) -> usize {
        self.index.bytes() + self.denial.bytes() + size_of::<Zone>()
    }

    /// Whether it has NSEC or NSEC3 records.
    pub fn is_signed(&self) -> bool {
        !self.denial.is_none()
    }

    /// Touches what the answer for `lower` would read first, so that memory is on its way when it
    /// is asked; gives the place that it reads next, for `hint_next`.
    #[inline]
    pub fn hint(&self, lower: Name<'_>) -> u32 {
        strip(lower.as_bytes(), &self.apex).map_or(0, |prefix| self.index.touch(prefix))
    }

    /// Touches the place that `hint` gave.
    #[inline]
    pub fn hint_next(&self, place: u32) {
        std::hint::black_box(self.index.touch_node(place));
    }

    pub(super) fn owner<'z>(&'z self, node: &Node<'z>) -> Owner<'z> {
        Owner { prefix: node.prefix(), apex: &self.apex }
    }

    pub(super) fn name_of(&self, node: &Node<'_>) -> NameBuf {
        // Prefix and apex were one name when the zone was made.
        NameBuf::join(node.prefix(), self.apex()).unwrap_or_default()
    }
}

pub(super) const NS: u16 = 2;
pub(super) const SOA: u16 = 6;

impl Soa {
    fn read(set: &Set<'_>, owner: Owner<'_>) -> Option<Soa> {
        let mut room = Spelled::new();
        let record = set.records().next()?;
        let rdata = record.rdata(set, owner, &mut room);
        let (mname, rest) = Name::from_wire(rdata).ok()?;
        let (rname, rest) = Name::from_wire(rest).ok()?;
        let mut numbers =
            rest.chunks_exact(4).map(|n| u32::from_be_bytes([n[0], n[1], n[2], n[3]]));
        let (mut mname_buf, mut rname_buf) = (NameBuf::root(), NameBuf::root());
        mname_buf.set(mname);
        rname_buf.set(rname);
        Some(Soa {
            ttl: record.ttl,
            mname: mname_buf,
            rname: rname_buf,
            serial: numbers.next()?,
            refresh: numbers.next()?,
            retry: numbers.next()?,
            expire: numbers.next()?,
            minimum: numbers.next()?,
        })
    }
}

/// How far a zone transfer has come: plain data, to be kept between messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AxfrCursor {
    stage: Stage,
    node: At,
    set: u16,
    /// Octets of the set's block that are done.
    octets: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    First,
    Records,
    Last,
    Done,
}

impl AxfrCursor {
    /// Whether everything was given.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// As two words, to be kept by who knows nothing of zones; all zero at the start.
    pub fn to_words(self) -> [u64; 2] {
        let stage = self.stage as u64 | u64::from(self.set) << 16 | u64::from(self.node) << 32;
        [stage, u64::from(self.octets)]
    }

    /// What [`to_words`](Self::to_words) made.
    pub fn from_words([first, octets]: [u64; 2]) -> Self {
        let stage = match first & 0xffff {
            0 => Stage::First,
            1 => Stage::Records,
            2 => Stage::Last,
            _ => Stage::Done,
        };
        let (set, node) = ((first >> 16) as u16, (first >> 32) as At);
        Self { stage, node, set, octets: octets as u32 }
    }
}

/// Takes owner, type, TTL and RDATA of a record; says whether to go on behind it.
pub type Take<'t> = dyn FnMut(Name<'_>, u16, u32, &[u8]) -> bool + 't;

impl Zone {
    /// Every record in the order of a zone transfer; RDATA uncompressed.
    pub fn each(&self, mut take: impl FnMut(Name<'_>, u16, u32, &[u8])) {
        self.each_from(&mut AxfrCursor::default(), &mut |owner, rtype, ttl, rdata| {
            take(owner, rtype, ttl, rdata);
            true
        });
    }

    /// Gives records from the cursor on, in the order of a zone transfer (RFC 5936 section 2.2: SOA,
    /// everything else, SOA), and moves it behind each that `take` says yes to. RDATA is
    /// uncompressed.
    pub fn each_from(&self, cursor: &mut AxfrCursor, take: &mut Take<'_>) {
        let mut room = Spelled::new();
        loop {
            match cursor.stage {
                Stage::Done => return,
                Stage::First | Stage::Last => {
                    let Some(node) = self.index.find(&[]) else { return };
                    let Some(set) = node.set(SOA) else { return };
                    for record in set.records() {
                        let rdata = record.rdata(&set, self.owner(&node), &mut room);
                        if !take(self.apex(), SOA, record.ttl, rdata) {
                            return;
                        }
                    }
                    let is_first = cursor.stage == Stage::First;
                    cursor.stage = if is_first { Stage::Records } else { Stage::Done };
                }
                Stage::Records => match self.index.next_from(cursor.node) {
                    None => cursor.stage = Stage::Last,
                    Some(node) => {
                        cursor.node = node.at;
                        if !self.each_of_node(&node, cursor, &mut room, take) {
                            return;
                        }
                        *cursor = AxfrCursor { node: node.after(), set: 0, octets: 0, ..*cursor };
                    }
                },
            }
        }
    }

    fn each_of_node(
        &self,
        node: &Node<'_>,
        cursor: &mut AxfrCursor,
        room: &mut Spelled,
        take: &mut Take<'_>,
    ) -> bool {
        let name = self.name_of(node);
        let is_apex = node.prefix().is_empty();
        for set in node.sets().skip(usize::from(cursor.set)) {
            let mut at = 0;
            for record in set.records() {
                let size = record.size();
                let is_due = at >= cursor.octets && !(is_apex && set.rtype == SOA);
                if is_due {
                    let rdata = record.rdata(&set, self.owner(node), room);
                    if !take(name.as_name(), set.rtype, record.ttl, rdata) {
                        cursor.octets = at;
                        return false;
                    }
                }
                at += size as u32;
            }
            cursor.set += 1;
            cursor.octets = 0;
        }
        true
    }
}
