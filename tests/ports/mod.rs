//! Ports for servers under test, of which no two tests get the same, in this process or another.

use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which the kernel takes ports for clients, and below that of load tests and of
/// the conformance corpus, which know nothing of our locks.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// A port that nobody has, for UDP and for TCP; ours until it is dropped.
pub struct Port {
    pub number: u16,
    /// Locked for as long as it is open: others, whose server may not listen yet, leave it alone.
    _lock: File,
}

impl Port {
    pub fn free() -> Self {
        static TRIED: AtomicU16 = AtomicU16::new(0);
        let folder = std::env::temp_dir().join("corelane-test-ports");
        fs::create_dir_all(&folder).expect("a folder for locks");
        // Begun at a different place by every process, so that few tries meet a lock.
        let first = std::process::id() % u32::from(COUNT);
        for _ in 0..COUNT {
            let tried = u32::from(TRIED.fetch_add(1, Ordering::Relaxed));
            let number = FIRST + ((first + tried) % u32::from(COUNT)) as u16;
            let lock = folder.join(number.to_string());
            let lock = File::options().create(true).append(true).open(lock);
            let Some(lock) = lock.ok().filter(|lock| lock.try_lock().is_ok()) else { continue };
            let tcp = TcpListener::bind(("0.0.0.0", number));
            if tcp.is_ok() && UdpSocket::bind(("0.0.0.0", number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("no port is free");
    }
}
