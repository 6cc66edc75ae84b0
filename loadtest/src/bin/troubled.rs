//! `troubled`: an upstream as forwarders fear it. It answers every query with itself and one A
//! record, as `reflect` does, but some late and some never, over UDP, with one thread.
//!
//! `--loss 0.2` leaves a fifth of all queries without an answer, `--loss 1` all of them; `--delay`
//! holds every answer back. With `--every 4s --for 2s` it is so for two seconds of every four, and
//! all is well in between.

use clap::Parser;
use loadtest::cli::{SOCKET_BUFFER_BYTES, parse_duration, within};
use loadtest::message::{REFLECTED_EXTRA, reflect};
use socket2::SockRef;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Room for one datagram and its answer, in bytes.
const DATAGRAM_LEN_MAX: usize = 2048;
/// Answers that are held back at a time; queries beyond them are lost.
const HELD_MAX: usize = 1 << 20;
/// The longest wait for a datagram: a socket's time-out cannot be none.
const WAIT: Duration = Duration::from_secs(1);

/// Answers DNS queries over UDP, some late and some never.
#[derive(Parser)]
struct Options {
    /// Where to listen.
    address: SocketAddr,
    /// How long answers are held back.
    #[arg(long, default_value = "0ms", value_parser = parse_duration)]
    delay: Duration,
    /// The share of queries that get no answer.
    #[arg(long, default_value_t = 0.0, value_parser = within::<f64>(0.0, 1.0))]
    loss: f64,
    /// The trouble comes again so often; 0s: it is always there.
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    every: Duration,
    /// How long it lasts each time.
    #[arg(long = "for", default_value = "0s", value_parser = parse_duration)]
    lasts: Duration,
    /// Which queries are lost follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Options {
    /// Whether there is trouble, so long after the start.
    fn is_ill(&self, after: Duration) -> bool {
        self.every.is_zero() || after.as_nanos() % self.every.as_nanos() < self.lasts.as_nanos()
    }
}

/// An answer, to whom, and when.
struct Held {
    due: Instant,
    to: SocketAddr,
    answer: Vec<u8>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let Err(error) = serve(&options);
    eprintln!("troubled: {}: {error}", options.address);
    ExitCode::FAILURE
}

fn serve(options: &Options) -> io::Result<std::convert::Infallible> {
    let socket = UdpSocket::bind(options.address)?;
    SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    SockRef::from(&socket).set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    // Who wants to know whether it is there yet can connect.
    let _listener = TcpListener::bind(options.address)?;
    println!("troubled: UDP {}", socket.local_addr()?);
    let start = Instant::now();
    let mut held: VecDeque<Held> = VecDeque::new();
    let mut random = options.seed.max(1);
    let mut buffer = [0; DATAGRAM_LEN_MAX];
    loop {
        let now = Instant::now();
        while let Some(first) = held.front().filter(|first| first.due <= now) {
            // What the kernel refuses is lost, as networks lose it.
            let _ = socket.send_to(&first.answer, first.to);
            held.pop_front();
        }
        let wait = held.front().map_or(WAIT, |first| first.due - now);
        socket.set_read_timeout(Some(wait.max(Duration::from_micros(50))))?;
        let (len, to) = match socket.recv_from(&mut buffer[..DATAGRAM_LEN_MAX - REFLECTED_EXTRA]) {
            Ok(received) => received,
            Err(error) if is_quiet(&error) => continue,
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        let ill = options.is_ill(now - start);
        if ill && share(&mut random) < options.loss || held.len() >= HELD_MAX {
            continue;
        }
        let Some(end) = reflect(&mut buffer, len) else { continue };
        let delay = if ill { options.delay } else { Duration::ZERO };
        if delay.is_zero() {
            let _ = socket.send_to(&buffer[..end], to);
        } else {
            held.push_back(Held { due: now + delay, to, answer: buffer[..end].to_vec() });
        }
    }
}

/// Nothing came in time, or an answer was refused by who does not wait for it any more.
fn is_quiet(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), ConnectionRefused | Interrupted | TimedOut | WouldBlock)
}

/// A number from 0 to 1 (xorshift64: the same for the same seed).
fn share(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_comes_and_goes() {
        let seconds = |text: &str| parse_duration(text).unwrap();
        let words = ["troubled", "127.0.0.1:1", "--loss", "1", "--every", "4s", "--for", "2s"];
        let options = Options::parse_from(words);
        let at = ["0s", "1.9s", "2s", "3.9s", "4s", "5.9s", "6s"];
        let ill: Vec<_> = at.iter().map(|at| options.is_ill(seconds(at))).collect();
        assert_eq!(ill, [true, true, false, false, true, true, false]);
        assert!(Options::parse_from(&words[..4]).is_ill(seconds("77s")), "always");
    }

    #[test]
    fn a_fifth_is_a_fifth() {
        let mut state = 1;
        let lost = (0..100_000).filter(|_| share(&mut state) < 0.2).count();
        assert!((19_500..20_500).contains(&lost), "{lost}");
    }
}
