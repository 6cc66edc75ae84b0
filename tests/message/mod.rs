//! DNS messages as octets, as clients of the tests send and take them.
#![allow(dead_code, reason = "each test program needs some of it")]

use std::io::{self, Read, Write};

/// A name in wire form, RFC 1035 section 3.1. A dot at its end is not needed.
pub fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut name: Vec<u8> =
        labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    name.push(0);
    name
}

/// A query in class IN with RD set, without EDNS.
pub fn query(id: u16, text: &str, rtype: u16) -> Vec<u8> {
    let head = [1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&id.to_be_bytes(), &head[..], &name(text), &rtype.to_be_bytes(), &[0, 1]].concat()
}

/// The query with EDNS, for datagrams of 1232 octets.
pub fn with_edns(mut query: Vec<u8>) -> Vec<u8> {
    query[11] += 1;
    query.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    query
}

/// A message as a stream carries it, RFC 1035 section 4.2.2.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// Writes a message to a stream.
pub fn send(stream: &mut impl Write, message: &[u8]) -> io::Result<()> {
    stream.write_all(&framed(message))
}

/// Reads the next message of a stream.
pub fn receive(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}
