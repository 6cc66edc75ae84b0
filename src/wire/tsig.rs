//! TSIG: messages signed by shared secrets (RFC 8945).
//!
//! [`read_tsig`] reads the record where it stands; [`verify`] judges a request by the octets as they
//! were received; [`Reply::sign`] appends the record to a finished reply, and to each message of
//! many (section 5.3.1). What is known of a signature is a [`TsigStatus`], which has no value that
//! stands for "nothing was looked at".
//!
//! MACs are compared in constant time. Nothing here allocates but what makes [`Keys`]; a MAC costs a
//! hash over the message and four blocks. The time is handed in: there is no clock here.

use std::fmt;

use hmac::{Hmac, Mac as _};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::error::{Full, WireError};
use super::header::{Counts, HEADER_BYTES};
use super::name::{Name, NameBuf};
use super::number::{rclass, rtype};
use super::record::{Record, Section};
use super::reply::Reply;
use crate::limits::{TSIG_FUDGE_SECONDS, TSIG_MAC_BYTES_MAX, TSIG_MAC_BYTES_MIN};

/// Octets of RDATA beside names, MAC and other data: time, fudge, sizes, id, error.
const RDATA_FIXED_BYTES: usize = 16;
/// Octets of a record beside owner and RDATA.
const RECORD_FIXED_BYTES: usize = 10;
/// Octets of other data: the server's time, where the client's is wrong (section 5.2.3).
const OTHER_BYTES: usize = 6;

/// How a MAC is made (RFC 8945 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// hmac-sha1
    Sha1,
    /// hmac-sha224
    Sha224,
    /// hmac-sha256
    Sha256,
    /// hmac-sha384
    Sha384,
    /// hmac-sha512
    Sha512,
}

impl TsigAlgorithm {
    /// All that are known here. HMAC-MD5 must not be used (section 6).
    pub const ALL: [Self; 5] = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The algorithm of this name, whatever its case.
    pub fn of(name: Name<'_>) -> Option<Self> {
        Self::ALL.into_iter().find(|one| name.eq_fold(one.name()))
    }

    /// Its name.
    pub fn name(self) -> Name<'static> {
        Name::trusted(match self {
            Self::Sha1 => b"\x09hmac-sha1\0",
            Self::Sha224 => b"\x0bhmac-sha224\0",
            Self::Sha256 => b"\x0bhmac-sha256\0",
            Self::Sha384 => b"\x0bhmac-sha384\0",
            Self::Sha512 => b"\x0bhmac-sha512\0",
        })
    }

    /// Octets of a whole MAC.
    pub const fn mac_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// A message authentication code.
#[derive(Clone, Copy)]
pub struct TsigMac {
    len: u8,
    bytes: [u8; TSIG_MAC_BYTES_MAX],
}

impl TsigMac {
    /// No octets: where there is no message before.
    pub const NONE: Self = Self { len: 0, bytes: [0; TSIG_MAC_BYTES_MAX] };

    /// As it was received; what is longer than any MAC is cut.
    fn of(bytes: &[u8]) -> Self {
        let mut mac = Self::NONE;
        let len = bytes.len().min(TSIG_MAC_BYTES_MAX);
        mac.bytes[..len].copy_from_slice(&bytes[..len]);
        mac.len = len as u8;
        mac
    }

    /// Its octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

impl fmt::Debug for TsigMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TsigMac({} octets)", self.len)
    }
}

/// A shared secret and its name.
#[derive(Clone)]
pub struct TsigKey {
    name: NameBuf,
    /// None: what the operator wrote is no secret, and nothing that is signed with it is good.
    secret: Option<Box<[u8]>>,
}

impl TsigKey {
    /// A key; without a secret nothing verifies.
    pub fn new(name: Name<'_>, secret: Option<Box<[u8]>>) -> Self {
        Self { name: NameBuf::lowered(name), secret }
    }

    /// Its name, in lower case.
    pub fn name(&self) -> Name<'_> {
        self.name.as_name()
    }
}

impl fmt::Debug for TsigKey {
    /// The name; the secret is nobody's to read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TsigKey({})", self.name)
    }
}

/// Keys by name.
#[derive(Clone, Default)]
pub struct TsigKeys(Vec<TsigKey>);

impl TsigKeys {
    /// The set of them; of several with the same name the last counts.
    pub fn new(keys: impl IntoIterator<Item = TsigKey>) -> Self {
        let mut kept: Vec<TsigKey> = Vec::new();
        for key in keys {
            kept.retain(|other| other.name != key.name);
            kept.push(key);
        }
        kept.sort_by(|a, b| a.name().as_bytes().cmp(b.name().as_bytes()));
        Self(kept)
    }

    fn find(&self, lower: Name<'_>) -> Option<u16> {
        let by_name = |key: &TsigKey| key.name().as_bytes().cmp(lower.as_bytes());
        self.0.binary_search_by(by_name).ok().map(|index| index as u16)
    }

    /// The key of an index that [`verify`] gave.
    pub fn get(&self, index: u16) -> Option<&TsigKey> {
        self.0.get(index as usize)
    }
}

/// What is wrong with a signature, in the code that the reply's TSIG record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TsigFault {
    /// The MAC is not that of the message (section 5.2.2).
    BadSig,
    /// The key or the algorithm is not known (section 5.2.1).
    BadKey,
    /// The time is too far from ours (section 5.2.3).
    BadTime,
    /// The MAC is good and too short (section 5.2.4).
    BadTrunc,
}

impl TsigFault {
    /// The error code.
    pub const fn code(self) -> u16 {
        match self {
            Self::BadSig => 16,
            Self::BadKey => 17,
            Self::BadTime => 18,
            Self::BadTrunc => 22,
        }
    }

    /// Whether the reply that tells of it is signed: only to a client that knows the key
    /// (section 5.3.2).
    pub const fn is_signed(self) -> bool {
        matches!(self, Self::BadTime | Self::BadTrunc)
    }
}

/// What is known of a query's signature. There is no default: who makes one has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TsigStatus {
    /// The message has no TSIG record.
    Unsigned,
    /// It was signed with a key that is known here, over these octets, at about this time.
    Verified,
    /// It was not.
    Failed(TsigFault),
}

/// A TSIG record (section 4.2).
#[derive(Clone, Copy, Debug)]
pub struct TsigView<'m> {
    /// Where it starts.
    pub at: usize,
    /// Name of the key, as it was sent.
    pub key: NameBuf,
    /// Name of the algorithm, as it was sent.
    pub algorithm: NameBuf,
    /// When it was signed: seconds since 1970, 48 bits.
    pub time_signed: u64,
    /// By how much the time may be wrong, in seconds.
    pub fudge: u16,
    /// The MAC.
    pub mac: &'m [u8],
    /// The message id when it was signed.
    pub original_id: u16,
    /// The error code.
    pub error: u16,
    /// Other data.
    pub other: &'m [u8],
}

/// Reads the TSIG record that starts at octet `at`.
///
/// # Errors
/// It is not one, or not as section 4.2 has it: class ANY, TTL 0, sizes that fit.
pub fn read_tsig(message: &[u8], at: usize) -> Result<TsigView<'_>, WireError> {
    let record = Record::read(message, at, Section::Additional)?;
    if record.rtype != rtype::TSIG || record.rclass != rclass::ANY || record.ttl != 0 {
        return Err(WireError::Rdata);
    }
    let (key, _) = NameBuf::read(message, at)?;
    let (algorithm, end) = NameBuf::read(message, record.rdata_at)?;
    let rest = message.get(end..record.end()).ok_or(WireError::Rdata)?;
    let ([t1, t2, t3, t4, t5, t6, f1, f2, m1, m2], rest) =
        rest.split_first_chunk::<10>().ok_or(WireError::Rdata)?;
    let mac_len = u16::from_be_bytes([*m1, *m2]) as usize;
    let (mac, rest) = rest.split_at_checked(mac_len).ok_or(WireError::Rdata)?;
    let ([i1, i2, e1, e2, o1, o2], other) =
        rest.split_first_chunk::<6>().ok_or(WireError::Rdata)?;
    if other.len() != u16::from_be_bytes([*o1, *o2]) as usize {
        return Err(WireError::Rdata);
    }
    Ok(TsigView {
        at,
        key,
        algorithm,
        time_signed: u64::from_be_bytes([0, 0, *t1, *t2, *t3, *t4, *t5, *t6]),
        fudge: u16::from_be_bytes([*f1, *f2]),
        mac,
        original_id: u16::from_be_bytes([*i1, *i2]),
        error: u16::from_be_bytes([*e1, *e2]),
        other,
    })
}

/// What [`verify`] found.
#[derive(Clone, Copy, Debug)]
pub struct TsigChecked {
    /// The verdict.
    pub status: TsigStatus,
    /// The key and the algorithm, where both are known: what the reply is signed with.
    pub by: Option<(u16, TsigAlgorithm)>,
    /// The request's MAC, over which the reply's goes (section 5.3).
    pub mac: TsigMac,
}

/// Judges the signature of a request, whose TSIG record starts at octet `at` and is its last; `now`
/// is in seconds since 1970. In the order of section 5.2: key, MAC, time, truncation.
///
/// # Errors
/// The record is malformed, or its MAC is of a length that no MAC has (section 5.2.2.1): FORMERR.
pub fn verify(
    message: &[u8],
    at: usize,
    keys: &TsigKeys,
    now: u64,
) -> Result<TsigChecked, WireError> {
    let view = read_tsig(message, at)?;
    let lower = NameBuf::lowered(view.key.as_name());
    let algorithm = TsigAlgorithm::of(view.algorithm.as_name());
    let found = |(index, algorithm)| Some((index, keys.get(index)?, algorithm));
    let failed = |fault, by| {
        Ok(TsigChecked { status: TsigStatus::Failed(fault), by, mac: TsigMac::of(view.mac) })
    };
    let Some((index, key, algorithm)) = keys.find(lower.as_name()).zip(algorithm).and_then(found)
    else {
        return failed(TsigFault::BadKey, None);
    };
    let (whole, by) = (algorithm.mac_bytes(), Some((index, algorithm)));
    if view.mac.len() > whole || view.mac.len() < TSIG_MAC_BYTES_MIN.max(whole / 2) {
        return Err(WireError::Rdata);
    }
    let counts = Counts::read(message);
    let variables = Variables {
        key: key.name(),
        algorithm,
        time_signed: view.time_signed,
        fudge: view.fudge,
        error: view.error,
        other: view.other,
    };
    let Some(mut digest) = Digest::new(key, algorithm) else {
        return failed(TsigFault::BadSig, by);
    };
    digest.message(&message[..at], view.original_id, counts.additional.wrapping_sub(1));
    digest.variables(&variables);
    if !digest.is(view.mac) {
        return failed(TsigFault::BadSig, by);
    }
    if now.abs_diff(view.time_signed) > u64::from(view.fudge) {
        return failed(TsigFault::BadTime, by);
    }
    if view.mac.len() < whole {
        // Only whole MACs are taken here: a policy that section 5.2.4 leaves to us.
        return failed(TsigFault::BadTrunc, by);
    }
    Ok(TsigChecked { status: TsigStatus::Verified, by, mac: TsigMac::of(view.mac) })
}

/// The fields of the record that are signed (section 4.3.3).
struct Variables<'a> {
    key: Name<'a>,
    algorithm: TsigAlgorithm,
    time_signed: u64,
    fudge: u16,
    error: u16,
    other: &'a [u8],
}

/// A MAC in the making.
enum Digest {
    Sha1(Hmac<Sha1>),
    Sha224(Hmac<Sha224>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

macro_rules! each {
    ($digest:expr, $hmac:ident => $what:expr) => {
        match $digest {
            Digest::Sha1($hmac) => $what,
            Digest::Sha224($hmac) => $what,
            Digest::Sha256($hmac) => $what,
            Digest::Sha384($hmac) => $what,
            Digest::Sha512($hmac) => $what,
        }
    };
}

impl Digest {
    fn new(key: &TsigKey, algorithm: TsigAlgorithm) -> Option<Self> {
        let secret = key.secret.as_deref()?;
        // HMAC takes a key of any length.
        Some(match algorithm {
            TsigAlgorithm::Sha1 => Self::Sha1(Hmac::new_from_slice(secret).ok()?),
            TsigAlgorithm::Sha224 => Self::Sha224(Hmac::new_from_slice(secret).ok()?),
            TsigAlgorithm::Sha256 => Self::Sha256(Hmac::new_from_slice(secret).ok()?),
            TsigAlgorithm::Sha384 => Self::Sha384(Hmac::new_from_slice(secret).ok()?),
            TsigAlgorithm::Sha512 => Self::Sha512(Hmac::new_from_slice(secret).ok()?),
        })
    }

    fn update(&mut self, bytes: &[u8]) {
        each!(self, hmac => hmac.update(bytes));
    }

    /// The MAC of the message before (section 4.3.1).
    fn prior(&mut self, mac: &TsigMac) {
        self.update(&u16::from(mac.len).to_be_bytes());
        self.update(mac.as_bytes());
    }

    /// The message without its TSIG record, as it was when it was signed (section 4.3.2).
    fn message(&mut self, message: &[u8], original_id: u16, additional: u16) {
        self.update(&original_id.to_be_bytes());
        self.update(&message[2..HEADER_BYTES - 2]);
        self.update(&additional.to_be_bytes());
        self.update(&message[HEADER_BYTES..]);
    }

    fn variables(&mut self, variables: &Variables<'_>) {
        self.update(variables.key.as_bytes());
        self.update(&rclass::ANY.to_be_bytes());
        self.update(&[0; 4]);
        self.update(variables.algorithm.name().as_bytes());
        self.timers(variables);
        self.update(&variables.error.to_be_bytes());
        self.update(&(variables.other.len() as u16).to_be_bytes());
        self.update(variables.other);
    }

    /// What alone of the variables is signed in messages after the first (section 5.3.1).
    fn timers(&mut self, variables: &Variables<'_>) {
        self.update(&variables.time_signed.to_be_bytes()[2..]);
        self.update(&variables.fudge.to_be_bytes());
    }

    fn finish(self) -> TsigMac {
        each!(self, hmac => TsigMac::of(&hmac.finalize().into_bytes()))
    }

    /// Whether `mac`, which may be cut short, is this MAC; in constant time.
    fn is(self, mac: &[u8]) -> bool {
        each!(self, hmac => hmac.verify_truncated_left(mac).is_ok())
    }
}

/// How a message is to be signed.
#[derive(Clone, Copy)]
pub struct Seal<'a> {
    /// Names of key and algorithm as the client wrote them.
    pub names: (Name<'a>, Name<'a>),
    /// The key and the algorithm; none where the reply tells of an error that is not signed.
    pub by: Option<(&'a TsigKey, TsigAlgorithm)>,
    /// MAC of the request, or of the message before; empty for a request.
    pub prior: &'a TsigMac,
    /// Whether messages of the same reply were signed before this one.
    pub continued: bool,
    /// When it is signed: seconds since 1970.
    pub now: u64,
    /// What is wrong with the request, and the time that it was signed at.
    pub fault: Option<(TsigFault, u64)>,
}

impl Seal<'_> {
    /// Octets of the record.
    pub fn bytes(&self) -> usize {
        let mac = self.by.map_or(0, |(_, algorithm)| algorithm.mac_bytes());
        let names = self.names.0.len() + self.names.1.len();
        names + RECORD_FIXED_BYTES + RDATA_FIXED_BYTES + mac + self.other_bytes()
    }

    fn other_bytes(&self) -> usize {
        let is_time = matches!(self.fault, Some((TsigFault::BadTime, _)));
        if is_time { OTHER_BYTES } else { 0 }
    }
}

impl Reply {
    /// Appends the TSIG record, as the last: nothing may be written after it. Gives its MAC, over
    /// which the next message's goes.
    ///
    /// # Errors
    /// It does not fit: the message is as it was.
    pub fn sign(&mut self, seal: &Seal<'_>) -> Result<TsigMac, Full> {
        let other = seal.now.to_be_bytes();
        let other = &other[8 - seal.other_bytes()..];
        let time_signed = match seal.fault {
            // What the client's time was is what it can verify (section 5.2.3).
            Some((TsigFault::BadTime, time)) => time,
            _ => seal.now,
        };
        let (fudge, error) = (TSIG_FUDGE_SECONDS, seal.fault.map_or(0, |(fault, _)| fault.code()));
        let mut mac = TsigMac::NONE;
        if let Some((key, algorithm)) = seal.by
            && let Some(mut digest) = Digest::new(key, algorithm)
        {
            let variables =
                Variables { key: key.name(), algorithm, time_signed, fudge, error, other };
            if !seal.prior.as_bytes().is_empty() {
                digest.prior(seal.prior);
            }
            digest.message(self.bytes(), self.id(), self.counts().additional);
            match seal.continued {
                true => digest.timers(&variables),
                false => digest.variables(&variables),
            }
            mac = digest.finish();
        }
        let mark = self.mark();
        let (id, (key, algorithm)) = (self.id(), seal.names);
        let rdata_len = algorithm.len() + RDATA_FIXED_BYTES + mac.as_bytes().len() + other.len();
        let [r1, r2] = (rdata_len as u16).to_be_bytes();
        let [t1, t2] = rtype::TSIG.to_be_bytes();
        let [c1, c2] = rclass::ANY.to_be_bytes();
        let mut write = || {
            self.admit(Section::Additional)?;
            self.put(key.as_bytes())?;
            self.put(&[t1, t2, c1, c2, 0, 0, 0, 0, r1, r2])?;
            self.put(algorithm.as_bytes())?;
            self.put(&time_signed.to_be_bytes()[2..])?;
            self.put(&fudge.to_be_bytes())?;
            self.put(&u16::from(mac.len).to_be_bytes())?;
            self.put(mac.as_bytes())?;
            self.put(&id.to_be_bytes())?;
            self.put(&error.to_be_bytes())?;
            self.put(&(other.len() as u16).to_be_bytes())?;
            self.put(other)?;
            self.count(Section::Additional, 1)
        };
        let written = write();
        written.inspect_err(|_| self.rewind(mark)).map(|()| mac)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::header::{Flags, Question};
    use super::super::query::parse_query;
    use super::*;

    const NOW: u64 = 1_700_000_000;
    const SECRET: &[u8] = b"secret-key-for-tests";

    /// MACs that dnspython 2.9 makes with `SECRET` of the name `K.Example.` at `NOW`: of an AXFR query,
    /// and of three messages that answer it.
    const MACS: [(TsigAlgorithm, [&str; 4]); 5] = [
        (
            TsigAlgorithm::Sha1,
            [
                "43bdcf541ae36d60636d28f7ef44d9abd56da7f3",
                "ee9806f58c4053ac34f79571ab465d58571b6305",
                "df9f91ec7c0769480b96928d76edc48f2fc765a2",
                "ddc0f861ced846cc3a439a5ee609046177cfea3d",
            ],
        ),
        (
            TsigAlgorithm::Sha224,
            [
                "e11d8b26479c986b953f94c1bdc84b3e173030509f156c513d94ceb8",
                "d46748211b2f66c66164f57bb7d5ce9551813d41ddb516d4a43e0d04",
                "045c3137ad4c9a21e76519532e9481db372b93bd4aa869b59b2607d7",
                "0b6e78ed18519da22bbf6bdadff3818549b2e94ee636bc8201b375ba",
            ],
        ),
        (
            TsigAlgorithm::Sha256,
            [
                "32388e4e78b1a595f912e23e86282ac62f8cf856a21fab3500eea02d5a2dc776",
                "6d52d3206e4aed9f10314a5993259f0aabc1dc38b6c7579ffd726eef90d04c12",
                "b1d5834fd23db57398ece41dc930bf562b3fdf51c4a8e6c01dff2e9a9058a509",
                "6e48e2b1f2aa241090605e439318886188c2f99b2a918b21d67eeb197bec1593",
            ],
        ),
        (
            TsigAlgorithm::Sha384,
            [
                "5afab99ff8d1efc41e7d4fb0104a220866f39e82dfb5c9703b893c7d9825b83f467ad6f7\
                 d6283c2dd38f9c680ff5f7ee",
                "a131fc0b109013e2b899ed0b02787b7a096c4fac9543486bd3cd304fa2a16b4a3824a643\
                 0d4f30cd33e205d825ab4918",
                "8f12d0e0f50491f14a4a584c9aba13b007c4574d1b2eac3af234212f46aa90bd389e0b4c\
                 389aaa6e54960326a62ead8d",
                "b481116f4af6f3d8bb89cd701c4cea0333da4549d8835c805678c27723ad694a4e711316\
                 9c5aaba3f67f1f03f3e22419",
            ],
        ),
        (
            TsigAlgorithm::Sha512,
            [
                "9735bdce972f63e9fc2fe5e2db9b585277a2ba78c549dc4e3c90162cde9cc2aae303f29b\
                 654e7eb710c0cee8ea64119f573a258af374c9716dccedf9c9f922cc",
                "083886ea6c78569bdf1202526794fa6de82d5a7fd2fb388ce117d0ab4424271fc3af1b32\
                 87e846957e5968c1ca82df60ea311f0b1764b68e5941cf37e101cb76",
                "beee1607204419c8874a35470b7aab5b0c733011af0a6f6d1a73eb68115f9e4ebf14eceb\
                 04796a1551b19eacb3fd1b566589db7830eee32fcbc02f7de54af860",
                "5b1aa5fb22db9cb274146e53e574cc22f7471547e83a18221f7c548f227bf539d635638f\
                 ffe86efbc5bba361f2a413ad525d5555a78a17b9f0ac11b6d20d812f",
            ],
        ),
    ];

    fn name(text: &str) -> NameBuf {
        NameBuf::parse(text).expect("a name")
    }

    fn keys() -> TsigKeys {
        let other = TsigKey::new(name("other.").as_name(), Some(b"another".as_slice().into()));
        let bad = TsigKey::new(name("bad.").as_name(), None);
        let key = TsigKey::new(name("k.EXAMPLE.").as_name(), Some(SECRET.into()));
        TsigKeys::new([other, bad, key])
    }

    fn message(flags: u16) -> Reply {
        let name = name("example.org.");
        let mut reply = Reply::new(vec![0; 600].into());
        let name = name.as_name();
        let question = Question { name, lower: name, rtype: rtype::AXFR, rclass: rclass::IN };
        reply.start(0x1234, Flags(flags), question);
        reply
    }

    /// A signed query.
    fn query(keys: &TsigKeys, key: &str, algorithm: TsigAlgorithm, now: u64) -> (Reply, TsigMac) {
        let named = name(key);
        let lower = NameBuf::lowered(named.as_name());
        let index = keys.find(lower.as_name()).expect("a key");
        let seal = Seal {
            names: (named.as_name(), algorithm.name()),
            by: Some((keys.get(index).expect("a key"), algorithm)),
            prior: &TsigMac::NONE,
            continued: false,
            now,
            fault: None,
        };
        let mut reply = message(0x0100);
        let mac = reply.sign(&seal).expect("room");
        (reply, mac)
    }

    fn at(message: &[u8]) -> usize {
        parse_query(message).expect("a query").tsig_at.expect("signed") as usize
    }

    fn status(message: &[u8], keys: &TsigKeys, now: u64) -> TsigStatus {
        verify(message, at(message), keys, now).expect("well-formed").status
    }

    fn hex(mac: &TsigMac) -> String {
        mac.as_bytes().iter().map(|octet| format!("{octet:02x}")).collect()
    }

    #[test]
    fn the_macs_are_those_of_another_implementation() {
        let keys = keys();
        for (algorithm, expected) in MACS {
            let (query, mac) = query(&keys, "K.Example.", algorithm, NOW);
            assert_eq!(hex(&mac), expected[0], "{algorithm:?}");
            let checked = verify(query.bytes(), at(query.bytes()), &keys, NOW).expect("a record");
            assert_eq!(checked.status, TsigStatus::Verified);
            let (index, by) = checked.by.expect("a key");
            assert_eq!(by, algorithm);
            assert_eq!(keys.get(index).map(TsigKey::name), Some(name("k.example.").as_name()));
            let mut prior = checked.mac;
            for (number, expected) in expected[1..].iter().enumerate() {
                let mut reply = message(0x8500);
                let owner = name("example.org.");
                let address = [192, 0, 2, number as u8].into();
                reply.push_address(Section::Answer, owner.as_name(), address, 300).expect("room");
                let (named, before, mac) = (name("K.Example."), reply.len(), prior);
                let seal = Seal {
                    names: (named.as_name(), algorithm.name()),
                    by: keys.get(index).map(|key| (key, algorithm)),
                    prior: &mac,
                    continued: number > 0,
                    now: NOW,
                    fault: None,
                };
                prior = reply.sign(&seal).expect("room");
                assert_eq!(hex(&prior), *expected, "{algorithm:?} {number}");
                assert_eq!(reply.len() - before, seal.bytes());
                super::super::validate(reply.bytes()).expect("valid");
            }
        }
    }

    #[test]
    fn key_mac_time_and_length_are_judged_in_this_order() {
        let keys = keys();
        let fault = |fault| TsigStatus::Failed(fault);
        let (good, _) = query(&keys, "k.example.", TsigAlgorithm::Sha256, NOW);
        for (now, expected) in [
            (NOW, TsigStatus::Verified),
            (NOW + 300, TsigStatus::Verified),
            (NOW - 300, TsigStatus::Verified),
            (NOW + 301, fault(TsigFault::BadTime)),
            (NOW - 301, fault(TsigFault::BadTime)),
        ] {
            assert_eq!(status(good.bytes(), &keys, now), expected, "{now}");
        }
        assert_eq!(
            status(good.bytes(), &TsigKeys::default(), NOW),
            fault(TsigFault::BadKey),
            "no keys"
        );
        let (late, _) = query(&keys, "k.example.", TsigAlgorithm::Sha256, 1);
        let mut late = late.bytes().to_vec();
        late[2] ^= 2;
        assert_eq!(status(&late, &keys, NOW), fault(TsigFault::BadSig), "before the time");
        let (none, mac) = query(&keys, "bad.", TsigAlgorithm::Sha256, NOW);
        assert!(mac.as_bytes().is_empty(), "nothing to sign with");
        assert_eq!(
            verify(none.bytes(), at(none.bytes()), &keys, NOW).map(|_| ()),
            Err(WireError::Rdata)
        );

        // hmac-sha256 is renamed to something of the same length.
        let mut unknown = good.bytes().to_vec();
        let place = unknown.windows(4).position(|octets| octets == b"hmac").expect("a name");
        unknown[place] = b'x';
        assert_eq!(status(&unknown, &keys, NOW), fault(TsigFault::BadKey));
    }

    /// The signed query with its MAC cut to `len` octets, or filled with zeros up to it.
    fn resized(query: &[u8], len: usize) -> Vec<u8> {
        let at = at(query);
        let view = read_tsig(query, at).expect("a record");
        let mut mac = view.mac.to_vec();
        mac.resize(len, 0);
        let mut bytes = query[..at].to_vec();
        bytes.extend(view.key.as_name().as_bytes());
        let algorithm = view.algorithm.as_name().as_bytes();
        let rdata_len = (algorithm.len() + RDATA_FIXED_BYTES + len) as u16;
        bytes.extend([0, 250, 0, 255, 0, 0, 0, 0]);
        bytes.extend(rdata_len.to_be_bytes());
        bytes.extend(algorithm);
        bytes.extend(&view.time_signed.to_be_bytes()[2..]);
        bytes.extend(view.fudge.to_be_bytes());
        bytes.extend((len as u16).to_be_bytes());
        bytes.extend(mac);
        bytes.extend(view.original_id.to_be_bytes());
        bytes.extend([0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn cut_macs_are_not_taken_and_impossible_ones_are_malformed() {
        let keys = keys();
        for algorithm in TsigAlgorithm::ALL {
            let (query, _) = query(&keys, "k.example.", algorithm, NOW);
            let whole = algorithm.mac_bytes();
            for len in 0..=whole + 1 {
                let bytes = resized(query.bytes(), len);
                let got = verify(&bytes, at(&bytes), &keys, NOW).map(|checked| checked.status);
                let expected = match len {
                    _ if len == whole => Ok(TsigStatus::Verified),
                    _ if len > whole || len < (whole / 2).max(10) => Err(WireError::Rdata),
                    _ => Ok(TsigStatus::Failed(TsigFault::BadTrunc)),
                };
                assert_eq!(got, expected, "{algorithm:?} {len}");
            }
            let mut cut = resized(query.bytes(), whole - 1);
            let last = cut.len() - 7;
            cut[last] ^= 1;
            assert_eq!(status(&cut, &keys, NOW), TsigStatus::Failed(TsigFault::BadSig));
        }
    }

    #[test]
    fn replies_to_errors_tell_them() {
        let keys = keys();
        let (query, mac) = query(&keys, "k.example.", TsigAlgorithm::Sha1, NOW);
        for (fault, is_signed) in [
            (TsigFault::BadSig, false),
            (TsigFault::BadKey, false),
            (TsigFault::BadTime, true),
            (TsigFault::BadTrunc, true),
        ] {
            assert_eq!(fault.is_signed(), is_signed);
            let mut reply = message(0x8500);
            let named = name("k.example.");
            let seal = Seal {
                names: (named.as_name(), TsigAlgorithm::Sha1.name()),
                by: is_signed.then(|| (keys.get(0).expect("a key"), TsigAlgorithm::Sha1)),
                prior: &mac,
                continued: false,
                now: NOW + 1000,
                fault: Some((fault, NOW)),
            };
            reply.sign(&seal).expect("room");
            let at = reply.bytes().len() - seal.bytes();
            let view = read_tsig(reply.bytes(), at).expect("a record");
            assert_eq!((view.error, view.mac.is_empty()), (fault.code(), !is_signed));
            let (time, other) = match fault {
                TsigFault::BadTime => (NOW, &(NOW + 1000).to_be_bytes()[2..]),
                _ => (NOW + 1000, &[][..]),
            };
            assert_eq!((view.time_signed, view.other, view.fudge), (time, other, 300));
        }
        let mut small = Reply::new(vec![0; 60].into());
        let owner = name("example.org.");
        let owner = owner.as_name();
        let question = Question { name: owner, lower: owner, rtype: 1, rclass: 1 };
        small.start(1, Flags(0x8000), question);
        let before = small.bytes().to_vec();
        let seal = Seal {
            names: (owner, owner),
            by: None,
            prior: &mac,
            continued: false,
            now: NOW,
            fault: None,
        };
        assert!(small.sign(&seal).is_err() && small.bytes() == before);
        assert!(status(query.bytes(), &keys, NOW) == TsigStatus::Verified);
    }

    proptest! {
        /// No octet of a signed query can be changed unnoticed, but for the message id, which is
        /// not signed, and the letters' case in the names of key and algorithm.
        #[test]
        fn every_octet_is_signed(place in 0_usize..1000, flip in 1_u8.., which in 0_usize..5) {
            let keys = keys();
            let (query, _) = query(&keys, "k.example.", TsigAlgorithm::ALL[which], NOW);
            let mut bytes = query.bytes().to_vec();
            let place = 2 + place % (bytes.len() - 2);
            bytes[place] ^= flip;
            let Ok(view) = parse_query(&bytes) else { return Ok(()) };
            let Some(at) = view.tsig_at else { return Ok(()) };
            let got = verify(&bytes, at as usize, &keys, NOW).map(|checked| checked.status);
            let is_case = flip == 0x20 && bytes[place].is_ascii_alphabetic() && place > at as usize;
            prop_assert!(got != Ok(TsigStatus::Verified) || is_case, "{place} {flip}");
        }
    }
}
