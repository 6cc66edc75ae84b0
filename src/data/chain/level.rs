//! One question on its way down a chain, and the reply to it on its way up.
//!
//! A walk has a stack of levels: level 0 is the client's question, each `Ask` adds one. A level's
//! question never changes (law 1); the rest of its query, [`Asked`], a plugin may change for those
//! below it. Level 0's reply is written into the buffer that is sent.

use super::text::Text;
use crate::limits::{CAUSE_BYTES_MAX, OPT_EXTRA_BYTES_MAX};
use crate::wire::{Flags, Name, NameBuf, Question, Reply, Rtype, opcode, rclass, rcode};

/// The rest of a level's query: what besides the question a plugin may change for those below.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// Message id: the client's at level 0, 0 elsewhere.
    pub id: u16,
    /// Header flags as the query had them (RD, CD, AD, opcode …).
    pub flags: Flags,
    /// Whether the query had an OPT record (RFC 6891).
    pub edns: bool,
    /// UDP payload size in octets from OPT; 512 without one.
    pub udp_size: u16,
    /// The DO bit (RFC 3225).
    pub dnssec_ok: bool,
    /// Whether a plugin has given OPT to a query that came without: the client does not offer more than
    /// 512 octets then, whatever `udp_size` says (RFC 6891 section 7).
    pub added_edns: bool,
    /// Where the EDNS options stand in the request or behind it, in octets from its start.
    pub options_at: u16,
    /// Octets of EDNS options.
    pub options_len: u16,
}

/// What has become of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplyState {
    /// Nobody has answered.
    #[default]
    Empty,
    /// A plugin wrote the reply; this says nothing of its rcode.
    Written,
    /// A plugin gave up with an rcode and has not written: `finish` writes the reply.
    Failed(u16),
    /// No reply is to be sent.
    Dropped,
}

/// Where a reply's data came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Source {
    /// From the snapshot or a table: memory that control keeps.
    #[default]
    Snapshot,
    /// From an upstream, for this query.
    Fetched,
    /// From a cache.
    Stored,
}

/// Why a reply failed: short text for the log, made only when something failed.
pub type Reason = Text<CAUSE_BYTES_MAX>;

/// EDNS options that plugins leave for `finish` to put into the reply's OPT record, in wire form.
#[derive(Clone, Copy)]
pub struct OptExtra {
    len: u16,
    /// Whether the query's own options are not echoed beside these.
    whole: bool,
    bytes: [u8; OPT_EXTRA_BYTES_MAX],
}

impl OptExtra {
    /// No options.
    pub const fn new() -> Self {
        Self { len: 0, whole: false, bytes: [0; OPT_EXTRA_BYTES_MAX] }
    }

    /// Appends one option; one that does not fit is left out, and `false` says so.
    pub fn push(&mut self, code: u16, data: &[u8]) -> bool {
        let start = self.len as usize;
        let end = start + 4 + data.len();
        if end > self.bytes.len() {
            return false;
        }
        self.bytes[start..start + 2].copy_from_slice(&code.to_be_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&(data.len() as u16).to_be_bytes());
        self.bytes[start + 4..end].copy_from_slice(data);
        self.len = end as u16;
        true
    }

    /// The options in wire form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// The options are those of an upstream's OPT: what it did not say back of the query's is not
    /// said back.
    pub fn make_whole(&mut self) {
        self.whole = true;
    }

    /// Whether they are.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether nothing was left.
    pub fn is_blank(&self) -> bool {
        self.len == 0 && !self.whole
    }

    /// Forgets all options.
    pub fn clear(&mut self) {
        self.len = 0;
        self.whole = false;
    }
}

impl Default for OptExtra {
    fn default() -> Self {
        Self::new()
    }
}

/// Where in the snapshot a level's query is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Place {
    /// Index of the server block, [`Place::NOWHERE`] if none serves the name.
    pub block: u16,
    /// Index of the matched zone within the block.
    pub zone: u16,
}

impl Place {
    /// The block of names that nothing serves.
    pub const NOWHERE: u16 = u16::MAX;
}

/// One question and its reply.
pub struct Level {
    pub(in crate::data) name: NameBuf,
    pub(in crate::data) lower: NameBuf,
    pub(in crate::data) rtype: Rtype,
    pub(in crate::data) rclass: u16,
    /// The rest of the query.
    pub asked: Asked,
    /// The reply's message; its state tells whether it holds one.
    pub reply: Reply,
    /// What has become of the reply.
    pub state: ReplyState,
    /// Index in its block's chain of the link that wrote the reply; `NOBODY` for the server.
    pub by: u16,
    /// Why it failed.
    pub reason: Reason,
    /// Where the data came from.
    pub source: Source,
    /// What `finish` adds to OPT.
    pub extra: OptExtra,
    pub(in crate::data) place: Place,
    pub(in crate::data) cursor: u16,
}

/// In [`Level::by`]: the server itself wrote the reply.
pub const NOBODY: u16 = u16::MAX;

impl Level {
    pub(in crate::data) fn new(buffer: Box<[u8]>) -> Self {
        Self {
            name: NameBuf::root(),
            lower: NameBuf::root(),
            rtype: 0,
            rclass: rclass::IN,
            asked: Asked::default(),
            reply: Reply::new(buffer),
            state: ReplyState::Empty,
            by: NOBODY,
            reason: Reason::new(),
            source: Source::Snapshot,
            extra: OptExtra::new(),
            place: Place::default(),
            cursor: 0,
        }
    }

    /// Makes the level that of a new question.
    pub(in crate::data) fn open(
        &mut self,
        name: Name<'_>,
        rtype: Rtype,
        rclass: u16,
        asked: Asked,
    ) {
        self.name.set(name);
        self.lower.set(name);
        self.lower.make_lower();
        self.rtype = rtype;
        self.rclass = rclass;
        self.asked = asked;
        self.cursor = 0;
        self.clear_reply();
    }

    /// As `open`, where the lower-cased name is at hand.
    pub(in crate::data) fn open_lowered(
        &mut self,
        name: Name<'_>,
        lower: &NameBuf,
        rtype: Rtype,
        rclass: u16,
        asked: Asked,
    ) {
        self.name.set(name);
        self.lower.copy(lower);
        self.rtype = rtype;
        self.rclass = rclass;
        self.asked = asked;
        self.cursor = 0;
        self.clear_reply();
    }

    /// Makes the reply Empty and forgets what came with it.
    pub fn clear_reply(&mut self) {
        self.reply.clear();
        self.state = ReplyState::Empty;
        self.by = NOBODY;
        self.reason.clear();
        self.source = Source::Snapshot;
        self.extra.clear();
    }

    /// The question.
    pub fn question(&self) -> Question<'_> {
        Question {
            name: self.name.as_name(),
            lower: self.lower.as_name(),
            rtype: self.rtype,
            rclass: self.rclass,
        }
    }

    /// The question, and the reply to write.
    pub fn parts(&mut self) -> (Question<'_>, &mut Reply) {
        let question = Question {
            name: self.name.as_name(),
            lower: self.lower.as_name(),
            rtype: self.rtype,
            rclass: self.rclass,
        };
        (question, &mut self.reply)
    }

    /// Where it is served.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Starts the reply: header with QR, the query's opcode, and the question. RD and CD are copied
    /// for opcode QUERY, to which alone they belong (RFC 1035 section 4.1.1, RFC 4035 section 3.2.2).
    pub fn start_reply(&mut self) {
        let asked = self.asked.flags;
        let is_query = asked.opcode() == opcode::QUERY;
        let flags = Flags::default()
            .with_qr(true)
            .with_opcode(asked.opcode())
            .with_rd(is_query && asked.rd())
            .with_cd(is_query && asked.cd());
        let question = Question {
            name: self.name.as_name(),
            lower: self.lower.as_name(),
            rtype: self.rtype,
            rclass: self.rclass,
        };
        self.reply.start(self.asked.id, flags, question);
        self.state = ReplyState::Written;
    }

    /// The rcode that the client gets, or got to see: of the message or of the failure.
    pub fn rcode(&self) -> u16 {
        match self.state {
            ReplyState::Failed(code) => code,
            ReplyState::Written => self.reply.rcode(),
            ReplyState::Empty | ReplyState::Dropped => rcode::NOERROR,
        }
    }
}
