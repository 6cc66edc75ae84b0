//! Basic authentication (RFC 7617) against bcrypt hashes, as the exporter toolkit has it.
//!
//! Guarantees: a hash is computed by a thread of its own, one at a time for an address, and after a
//! password that was wrong the next waits for three times as long as that took: whoever guesses costs
//! a quarter of a core at most, and holds up neither health nor those whose password was found right
//! before. A name that nobody has takes as long as one that somebody has.
//!
//! Cost: the first request with a password takes what its hash was made to take (a cost of 10, some
//! 50 ms); those after it a SHA-256.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use crate::limits::{ADMIN_PASSWORDS_KNOWN_MAX, ADMIN_TIMEOUT_SECONDS};

/// How much longer than its hash a wrong password holds up the next.
const REST: u32 = 3;
/// Octets of a bcrypt hash in its usual form (`$2y$10$…`).
const HASH_BYTES: usize = 60;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is answered.
    Granted,
    /// It has no name and password, or not the right ones.
    Refused,
    /// Too many others have theirs looked at.
    Busy,
}

/// What has been learned of passwords.
pub(super) struct Passwords {
    /// Proofs of those that were right, the latest last.
    known: ArcSwap<Vec<[u8; 32]>>,
    /// Held while a hash is computed: when the next may be.
    turn: Arc<Mutex<Instant>>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { known: ArcSwap::default(), turn: Arc::new(Mutex::new(Instant::now())) }
    }
}

impl Passwords {
    /// Whether a request with these headers comes from one of the users (hashes by name).
    pub(super) async fn admits(
        &self,
        users: &BTreeMap<String, String>,
        headers: &HeaderMap,
    ) -> Admission {
        let Some(other) = users.values().next() else { return Admission::Granted };
        let Some((user, password)) = credentials(headers) else { return Admission::Refused };
        let hash = users.get(&user);
        let is_user = hash.is_some();
        let proof = prove(hash.unwrap_or(other), &password);
        if is_user && self.known.load().contains(&proof) {
            return Admission::Granted;
        }
        let hash = hash.unwrap_or(other).clone();
        match self.compute(hash, password).await {
            Some(true) if is_user => self.learn(proof),
            Some(_) => return Admission::Refused,
            None => return Admission::Busy,
        }
        Admission::Granted
    }

    /// Whether the password is the one of the hash. None: its turn did not come in time.
    #[allow(clippy::disallowed_methods, reason = "one thread at a time")]
    async fn compute(&self, hash: String, password: Vec<u8>) -> Option<bool> {
        let turn = timeout(Duration::from_secs(ADMIN_TIMEOUT_SECONDS), async {
            let turn = Arc::clone(&self.turn).lock_owned().await;
            sleep_until(*turn).await;
            turn
        });
        let mut turn = turn.await.ok()?;
        // The thread holds the turn: a client that leaves meanwhile does not end it early.
        let computed = tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            let is_right = bcrypt::verify(password, &hash).unwrap_or(false);
            if !is_right {
                *turn = Instant::now() + start.elapsed() * REST;
            }
            is_right
        });
        Some(computed.await.unwrap_or(false))
    }

    fn learn(&self, proof: [u8; 32]) {
        let mut known = self.known.load().to_vec();
        if known.len() == ADMIN_PASSWORDS_KNOWN_MAX {
            known.remove(0);
        }
        known.push(proof);
        self.known.store(Arc::new(known));
    }
}

/// Says in Go's words why `hash` is none of bcrypt.
pub(super) fn is_hash(hash: &str) -> Result<(), String> {
    let bad = |why: String| Err(format!("crypto/bcrypt: {why}"));
    if hash.len() < HASH_BYTES - 1 {
        return bad("hashedSecret too short to be a bcrypted password".into());
    }
    let mut parts = hash.split('$');
    if let Some(first) = parts.next().and_then(|before| before.chars().next()) {
        let why =
            format!("bcrypt hashes must start with '$', but hashedSecret started with '{first}'");
        return bad(why);
    }
    let version = parts.next().unwrap_or_default();
    let major = version.chars().next().unwrap_or('$');
    if major > '2' {
        let why = format!(
            "bcrypt algorithm version '{major}' requested is newer than current version '2'"
        );
        return bad(why);
    }
    let cost = parts.next().unwrap_or_default();
    match cost.parse::<u32>() {
        Ok(4..=31) => {}
        Ok(cost) => return bad(format!("cost {cost} is outside allowed inclusive range 4..31")),
        Err(_) => return Err(format!("strconv.Atoi: parsing {cost:?}: invalid syntax")),
    }
    // What Go would only find out, and hold against everybody, when somebody asks.
    match hash.parse::<bcrypt::HashParts>() {
        Ok(_) => Ok(()),
        Err(_) => bad("malformed hash".into()),
    }
}

/// Name and password of a request.
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, encoded) = value.split_at_checked(b"Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let decoded = STANDARD.decode(encoded).ok()?;
    let colon = decoded.iter().position(|octet| *octet == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

/// Stands for a password that is right for a hash, without being it.
fn prove(hash: &str, password: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(hash).chain_update([0]).chain_update(password).finalize().into()
}
