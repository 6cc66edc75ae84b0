//! Netlink messages, as far as a node's rules and addresses need them: attributes in attributes, sent
//! as one batch, and the kernel's word on each (RFC 3549 section 2; `linux/netlink.h`).

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::{NETLINK_BYTES_MAX, NETLINK_SECONDS_MAX};

const NLMSG_HEADER_BYTES: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// Make it if it is not there.
pub const CREATE: u16 = 0x400;
/// It must not be there.
pub const EXCLUSIVE: u16 = 0x200;
/// What is there is made anew.
pub const REPLACE: u16 = 0x100;
/// Behind those that are there.
pub const APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;

/// Messages that are sent at once.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    count: u32,
}

impl Batch {
    /// Adds a message: its kind, its flags, what stands before the attributes, and the attributes.
    pub fn add(&mut self, kind: u16, flags: u16, head: &[u8], attributes: &[u8]) {
        let asked = NLM_F_REQUEST | NLM_F_ACK | flags;
        self.push(kind, asked, head, attributes);
    }

    /// Adds a message that the kernel does not answer: the frame of a transaction.
    pub fn frame(&mut self, kind: u16, head: &[u8]) {
        self.push(kind, NLM_F_REQUEST, head, &[]);
    }

    fn push(&mut self, kind: u16, flags: u16, head: &[u8], attributes: &[u8]) {
        self.count += 1;
        let len = NLMSG_HEADER_BYTES + head.len() + attributes.len();
        self.bytes.extend((len as u32).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend(head);
        self.bytes.extend(attributes);
    }
}

/// An attribute: its kind, its value, and octets up to the next multiple of four.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An attribute of attributes.
pub fn nested(kind: u16, inner: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, &inner.concat())
}

/// A text, as the kernel reads it: to its NUL.
pub fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

/// A number of 32 bits in network order, as netfilter has all its numbers.
pub fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

/// A socket to a part of the kernel.
pub struct Netlink(Socket);

impl Netlink {
    /// Opens one. `family`: `NETLINK_ROUTE`, `NETLINK_NETFILTER`.
    ///
    /// # Errors
    /// The kernel is without that part.
    pub fn open(family: i32) -> io::Result<Self> {
        let domain = Domain::from(libc::AF_NETLINK);
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(family)))?;
        Ok(Self::from(OwnedFd::from(socket)))
    }

    /// The socket.
    pub fn socket(&self) -> &Socket {
        &self.0
    }

    /// Sends a batch, and waits until the kernel has done it.
    ///
    /// # Errors
    /// The first that the kernel tells of: then none of a transaction is done.
    pub fn run(&self, batch: &Batch) -> io::Result<()> {
        self.ask(batch).map(drop)
    }

    /// As `run`, and gives what the kernel answers beside its word: each without its header.
    ///
    /// # Errors
    /// As `run`.
    pub fn ask(&self, batch: &Batch) -> io::Result<Vec<Vec<u8>>> {
        let mut said = Vec::new();
        // What an earlier batch has left unread.
        let mut answer = vec![0; NETLINK_BYTES_MAX];
        self.0.set_nonblocking(true)?;
        while io::Read::read(&mut &self.0, &mut answer).is_ok_and(|len| len > 0) {}
        self.0.set_nonblocking(false)?;
        self.0.set_read_timeout(Some(Duration::from_secs(NETLINK_SECONDS_MAX)))?;
        self.0.send(&batch.bytes)?;
        let mut last = last_asked(&batch.bytes);
        while last.is_some() {
            let len = io::Read::read(&mut &self.0, &mut answer)?;
            let bodies = messages(&answer[..len]).filter(|(_, kind, ..)| *kind != NLMSG_ERROR);
            said.extend(bodies.map(|(.., body)| body.to_vec()));
            for (sequence, code) in answers(&answer[..len]) {
                match code {
                    0 if Some(sequence) == last => last = None,
                    0 => {}
                    code => return Err(io::Error::from_raw_os_error(-code)),
                }
            }
        }
        Ok(said)
    }
}

impl From<OwnedFd> for Netlink {
    fn from(descriptor: OwnedFd) -> Self {
        Self(Socket::from(descriptor))
    }
}

/// The value of the first attribute of a kind.
pub fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let two = |at: usize| attributes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes);
        let (len, found) = (usize::from(two(0)?), two(2)?);
        let value = attributes.get(4..len)?;
        if found & !NLA_F_NESTED == kind {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

/// Messages of what was sent or came: number, kind, flags and what follows the header.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u32, u16, u16, &[u8])> {
    std::iter::from_fn(move || {
        let four = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let two = |at: usize| bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes);
        let len = four(0)? as usize;
        let (kind, flags, sequence) = (two(4)?, two(6)?, four(8)?);
        let body = bytes.get(NLMSG_HEADER_BYTES..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((sequence, kind, flags, body))
    })
}

/// The number of the last message that wants an answer.
fn last_asked(bytes: &[u8]) -> Option<u32> {
    messages(bytes).filter(|(_, _, flags, _)| flags & NLM_F_ACK != 0).map(|(n, ..)| n).last()
}

/// What the kernel says: the number of a message, and 0 or the negative of an error.
fn answers(bytes: &[u8]) -> impl Iterator<Item = (u32, i32)> {
    let errors = messages(bytes).filter(|(_, kind, ..)| *kind == NLMSG_ERROR);
    errors.filter_map(|(sequence, _, _, body)| {
        Some((sequence, i32::from_ne_bytes(body.get(..4)?.try_into().ok()?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_messages_are_found_again() {
        assert_eq!(attribute(3, b"abc"), [&7u16.to_ne_bytes()[..], &[3, 0], b"abc\0"].concat());
        let mut batch = Batch::default();
        batch.frame(16, &[0; 4]);
        batch.add(20, CREATE, &[1, 2, 3, 4], &text(1, "x"));
        batch.frame(17, &[0; 4]);
        let kinds: Vec<_> = messages(&batch.bytes).map(|(n, kind, ..)| (n, kind)).collect();
        assert_eq!(kinds, [(1, 16), (2, 20), (3, 17)]);
        assert_eq!(last_asked(&batch.bytes), Some(2));
    }

    #[test]
    fn attributes_are_found_in_attributes() {
        let all = [text(1, "x"), nested(18, &[number(4, 7), text(1, "dummy")])].concat();
        let inner = find(&all, 18).unwrap();
        assert_eq!(find(inner, 1), Some(&b"dummy\0"[..]));
        assert_eq!(
            (find(inner, 2), find(&all[..5], 1), find(&[1, 0, 1, 0], 1)),
            (None, None, None)
        );
    }

    #[test]
    fn nonsense_is_no_answer() {
        for bytes in [&[][..], &[1, 2, 3], &[255; 20], &[16, 0, 0, 0, 2, 0, 0, 0]] {
            assert_eq!(answers(bytes).count(), 0);
        }
    }
}
