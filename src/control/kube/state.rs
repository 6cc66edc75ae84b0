//! The last known state of the cluster on disk, for a start without an API server.
//!
//! One file for each cluster and choice of objects: a line that says what it is, a line of JSON for
//! each object that is held, and a checksum (SHA-256) of all that. It is written beside and renamed
//! into its place, so that it is always whole; at most every `KUBE_STATE_SECONDS_MIN`, less often
//! where writing takes long, and before the process ends; only while every kind is in sync.
//!
//! What cannot be read or has another checksum is told of in one line and passed over. Costs: an
//! object in memory at a time; reading and writing are done by the pool of threads that may block.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::{Settings, Sync};
use crate::cluster::feed::{Applied, Change, Feed};
use crate::cluster::object::{Kind, Object};
use crate::limits::{KUBE_OBJECT_BYTES_MAX, KUBE_STATE_PAUSE_FACTOR, KUBE_STATE_SECONDS_MIN};
use crate::plugin::Ready;
use crate::plugin::site::blocking;

/// The first word of a file, with the version of its form.
const FORM: &str = "corelane-cluster-1";
/// Octets of the last line: `sha256 `, 64 digits, a newline.
const TRAILER_BYTES: usize = 7 + 64 + 1;

/// A cluster's file, and whether it is behind.
pub struct State {
    path: PathBuf,
    feed: Arc<dyn Feed>,
    sync: Arc<Sync>,
    changes: Arc<AtomicU64>,
    /// Changes that the file holds.
    written: AtomicU64,
}

/// Counts the changes that pass through.
pub(super) struct Counting {
    pub feed: Arc<dyn Feed>,
    pub changes: Arc<AtomicU64>,
}

impl Feed for Counting {
    fn apply(&self, change: Change) -> Applied {
        let applied = self.feed.apply(change);
        if applied != Applied::Same {
            self.changes.fetch_add(1, Relaxed);
        }
        applied
    }

    fn each(&self, take: &mut dyn FnMut(Object) -> bool) {
        self.feed.each(take);
    }
}

impl State {
    /// The file of these settings in a directory.
    pub(super) fn new(
        folder: &Path,
        settings: &Settings,
        feed: &Arc<dyn Feed>,
        sync: &Arc<Sync>,
        changes: &Arc<AtomicU64>,
    ) -> Self {
        let Settings { connect, kinds, selectors, held, .. } = settings;
        let what = format!("{:?}", (connect, kinds, selectors, held));
        let hash = hex(&Sha256::digest(what)[..8]);
        Self {
            path: folder.join(format!("kubernetes-{hash}.state")),
            feed: Arc::clone(feed),
            sync: Arc::clone(sync),
            changes: Arc::clone(changes),
            written: AtomicU64::new(0),
        }
    }

    /// Puts what the file holds into the index; whether there was anything. Blocks.
    pub(super) fn recall(&self, kinds: &[Kind]) -> bool {
        let path = self.path.display();
        match read(&self.path, kinds, &*self.feed) {
            Ok((objects, since)) => {
                tracing::warn!(
                    target: "plugin/kubernetes",
                    "serving {objects} objects as they were at {since} until the API answers"
                );
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::warn!(
                    target: "plugin/kubernetes",
                    "the state in {path} is passed over: {error}"
                );
                false
            }
        }
    }

    /// Writes what is held, if it is in sync and the file is behind. Blocks.
    pub fn save(&self) {
        let changes = self.changes.load(Relaxed);
        if !self.sync.is_ready() || changes == self.written.load(Relaxed) {
            return;
        }
        match write(&self.path, &*self.feed) {
            Ok(()) => self.written.store(changes, Relaxed),
            Err(error) => {
                let path = self.path.display();
                tracing::error!(
                    target: "plugin/kubernetes",
                    "the state could not be kept in {path}: {error}"
                );
            }
        }
    }

    /// Keeps the file up to date.
    pub(super) async fn keep(self: Arc<Self>) {
        let pause = Duration::from_secs(KUBE_STATE_SECONDS_MIN);
        self.sync.all().await;
        loop {
            let began = Instant::now();
            let this = Arc::clone(&self);
            // A failure is told of in `save`; a panic there leaves the file as it was.
            drop(blocking(move || this.save()).await);
            sleep(pause.max(began.elapsed() * KUBE_STATE_PAUSE_FACTOR)).await;
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn broken(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

/// Writes and digests.
struct Digesting<W> {
    out: W,
    digest: Sha256,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.out.write(octets)?;
        self.digest.update(&octets[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes everything that is held, and puts the file into its place.
fn write(path: &Path, feed: &dyn Feed) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let file = BufWriter::with_capacity(1 << 18, File::create(&fresh)?);
    let mut out = Digesting { out: file, digest: Sha256::new() };
    writeln!(out, "{FORM} {}", jiff::Timestamp::now().round(jiff::Unit::Second).map_err(broken)?)?;
    let mut result = Ok(());
    feed.each(&mut |object| {
        result = write_object(&mut out, &object);
        result.is_ok()
    });
    result?;
    let digest = hex(&out.digest.finalize());
    writeln!(out.out, "sha256 {digest}")?;
    let file = out.out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(fresh, path)
}

fn write_object(out: &mut impl Write, object: &Object) -> io::Result<()> {
    write!(out, "{} ", object.kind().as_str())?;
    match object {
        Object::Namespace(one) => serde_json::to_writer(&mut *out, one)?,
        Object::Service(one) => serde_json::to_writer(&mut *out, one)?,
        Object::Slice(one) | Object::ImportSlice(one) => serde_json::to_writer(&mut *out, one)?,
        Object::Pod(one) => serde_json::to_writer(&mut *out, one)?,
        Object::Import(one) => serde_json::to_writer(&mut *out, one)?,
    }
    out.write_all(b"\n")
}

/// Checks a file, then puts its objects into the index; how many, and as of when.
fn read(path: &Path, kinds: &[Kind], feed: &dyn Feed) -> io::Result<(u64, String)> {
    let mut file = BufReader::with_capacity(1 << 18, File::open(path)?);
    let whole = file.get_ref().metadata()?.len();
    let length = whole.checked_sub(TRAILER_BYTES as u64).ok_or_else(|| broken("too short"))?;
    let mut digest = Sha256::new();
    io::copy(&mut (&mut file).take(length), &mut digest)?;
    let mut trailer = String::new();
    file.read_to_string(&mut trailer)?;
    if trailer != format!("sha256 {}\n", hex(&digest.finalize())) {
        return Err(broken("its checksum is wrong"));
    }
    file.seek(SeekFrom::Start(0))?;
    let mut file = file.take(length);
    let mut head = String::new();
    (&mut file).take(KUBE_OBJECT_BYTES_MAX as u64).read_line(&mut head)?;
    let since = head.trim_end().strip_prefix(FORM).ok_or_else(|| broken("of another version"))?;
    for kind in kinds {
        feed.apply(Change::Begin(*kind));
    }
    let mut objects = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut file).take(KUBE_OBJECT_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            break;
        }
        let space = line.iter().position(|octet| *octet == b' ').unwrap_or(0);
        let (word, json) = line.split_at(space);
        let kind = kinds.iter().find(|kind| kind.as_str().as_bytes() == word);
        let kind = kind.ok_or_else(|| broken("an object of another kind"))?;
        let object = Object::read(*kind, &mut serde_json::Deserializer::from_slice(json));
        feed.apply(Change::Put(object.map_err(broken)?));
        objects += 1;
    }
    for kind in kinds {
        feed.apply(Change::Recalled(*kind));
    }
    Ok((objects, since.trim().to_owned()))
}
