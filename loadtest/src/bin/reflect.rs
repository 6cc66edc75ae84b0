//! `reflect`: the limit of sockets. One thread turns every query around as its own answer with
//! one A record; what a server costs above this is its own work.
//!
//! UDP: receive up to `--batch` datagrams, turn them around in place, send them, with one system
//! call each way. TCP: one read, all whole queries in it answered, one write.

use clap::Parser;
use loadtest::cli::{SOCKET_BUFFER_BYTES, within};
use loadtest::message::{REFLECTED_EXTRA, reflect};
use loadtest::sys::{Datagrams, Peers};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::ExitCode;

/// Room for one datagram and its answer, in bytes.
const DATAGRAM_LEN_MAX: usize = 2048;
/// Room for what one read of a stream brings, in bytes: a message and most of another.
const INPUT_LEN: usize = 2 * (2 + u16::MAX as usize);
/// Open connections; more are closed at once.
const CONNECTIONS_MAX: usize = 1024;
const LISTENER: Token = Token(0);

/// Turns every DNS query around as its own answer, with one thread.
#[derive(Parser)]
struct Options {
    /// Where to listen.
    address: SocketAddr,
    /// UDP: most datagrams of one system call.
    #[arg(long, default_value_t = 64, value_parser = within::<usize>(1, 1024))]
    batch: usize,
    /// Serve TCP instead of UDP.
    #[arg(long)]
    tcp: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.tcp {
        true => serve_tcp(options.address),
        false => serve_udp(options.address, options.batch),
    };
    let Err(error) = outcome;
    eprintln!("reflect: {}: {error}", options.address);
    ExitCode::FAILURE
}

fn serve_udp(address: SocketAddr, batch: usize) -> io::Result<std::convert::Infallible> {
    let socket = UdpSocket::bind(address)?;
    SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    SockRef::from(&socket).set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    println!("reflect: UDP {}", socket.local_addr()?);
    let mut datagrams = Datagrams::new(batch, DATAGRAM_LEN_MAX, Peers::Any);
    loop {
        let count = match datagrams.receive(socket.as_fd(), true) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome?,
        };
        let mut unsent = 0;
        for index in 0..count {
            let (query, whole) = datagrams.received(index);
            let len = if whole { query.len() } else { 0 };
            match reflect(datagrams.buffer(index), len) {
                Some(end) => datagrams.set_len(index, end),
                None => {
                    send_all(&mut datagrams, &socket, unsent, index);
                    unsent = index + 1;
                }
            }
        }
        send_all(&mut datagrams, &socket, unsent, count);
    }
}

/// Sends datagrams `next..end`. One that the kernel refuses is lost, as networks lose them.
fn send_all(datagrams: &mut Datagrams, socket: &UdpSocket, mut next: usize, end: usize) {
    while next < end {
        next += datagrams.send(socket.as_fd(), next..end).unwrap_or(1).max(1);
    }
}

fn serve_tcp(address: SocketAddr) -> io::Result<std::convert::Infallible> {
    let mut listener = TcpListener::bind(address)?;
    println!("reflect: TCP {}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(64);
    let mut connections = HashMap::new();
    let mut input = vec![0; INPUT_LEN];
    let mut next_token = 1;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let token = Token(next_token);
                    next_token += 1;
                    if let Ok(connection) = Connection::new(stream, &poll, token)
                        && connections.len() < CONNECTIONS_MAX
                    {
                        connections.insert(token, connection);
                    }
                }
            } else if let Some(connection) = connections.get_mut(&event.token())
                && connection.advance(&mut input).is_err()
            {
                connections.remove(&event.token());
            }
        }
    }
}

/// A client's connection. While `output` waits for the client to read, nothing is read from it.
struct Connection {
    stream: TcpStream,
    /// The start of a query whose end has not come yet.
    partial: Vec<u8>,
    output: Vec<u8>,
}

impl Connection {
    fn new(mut stream: TcpStream, poll: &Poll, token: Token) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, token, interest)?;
        Ok(Self { stream, partial: Vec::new(), output: Vec::new() })
    }

    /// Reads, answers and writes until the kernel has no more to give or to take: events come
    /// once only. An error ends the connection.
    fn advance(&mut self, input: &mut [u8]) -> io::Result<()> {
        loop {
            if !self.write()? {
                return Ok(());
            }
            let held = self.partial.len();
            input[..held].copy_from_slice(&self.partial);
            let end = match self.stream.read(&mut input[held..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => held + count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let taken = answer_all(&input[..end], &mut self.output)?;
            self.partial.clear();
            self.partial.extend_from_slice(&input[taken..end]);
            if end < input.len() {
                // A short read: the socket is empty, and more of it is a new event.
                return self.write().map(drop);
            }
        }
    }

    /// Writes what is to be written; whether all of it went.
    fn write(&mut self) -> io::Result<bool> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) if count == self.output.len() => self.output.clear(),
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Answers all whole queries at the start of `input` (RFC 1035 section 4.2.2) and says how many
/// bytes they took. What is no query is an error.
fn answer_all(input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
    let mut rest = input;
    while let Some((prefix, after)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*prefix));
        let Some((query, after)) = after.split_at_checked(len) else { break };
        rest = after;
        let room = len + REFLECTED_EXTRA;
        let prefix = u16::try_from(room).map_err(|_| ErrorKind::InvalidData)?;
        output.extend_from_slice(&prefix.to_be_bytes());
        let start = output.len();
        output.extend_from_slice(query);
        output.resize(start + room, 0);
        reflect(&mut output[start..], len).ok_or(ErrorKind::InvalidData)?;
    }
    Ok(input.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_queries_of_a_stream_are_answered_and_the_rest_is_left() {
        let query = b"\0\x13\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        let stream = [&query[..], &query[..], &query[..5]].concat();
        let mut output = Vec::new();
        assert_eq!(answer_all(&stream, &mut output).unwrap(), 2 * query.len());
        assert_eq!(output.len(), 2 * (query.len() + REFLECTED_EXTRA));
        assert_eq!(output[..5], [0, 0x13 + REFLECTED_EXTRA as u8, 0x12, 0x34, 0x85]);
        assert!(answer_all(b"\0\x01x", &mut output).is_err());
    }
}
