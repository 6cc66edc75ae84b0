//! One kind of objects, listed and watched for ever.
//!
//! A list comes first: streaming where the server has it, else in pages. What it gives goes straight
//! into the index, which marks and sweeps, so that nothing exists twice. Then the watch is followed
//! and taken up where it ended, whoever ended it. The kind is listed again only when the server has
//! forgotten the history (410), or has another one: a `resourceVersion` that goes back. After a
//! connection was lost, a list of one object tells the server's version first: after a restore the
//! server may know ours for a long time only as one to come, and say nothing.
//!
//! Guarantees: what was listed stays and is served while the server is away; a watch without a sign
//! of life for `KUBE_SILENCE_SECONDS_MAX` is cut; an event that cannot be read is asked for once
//! more, then passed over, counted and told. Costs: a list on a server that already answers queries
//! takes at most `CONTROL_SHARE_PERCENT_MAX` of a core.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Bytes;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::api::{Answer, Api, Status};
use super::decode::{self, Lines, List};
use super::metrics::Counts;
use super::request::Selectors;
use super::trouble::{Journal, Trouble};
use super::{Sync, Times};
use crate::cluster::feed::{Change, Feed};
use crate::cluster::object::{Kind, Object};
use crate::data::rng::Rng;
use crate::limits::{
    CONTROL_SHARE_PERCENT_MAX, KUBE_BACKOFF_MILLIS_MAX, KUBE_BACKOFF_MILLIS_MIN,
    KUBE_STREAM_SECONDS_MAX,
};

const STREAM: Duration = Duration::from_secs(KUBE_STREAM_SECONDS_MAX);
/// Refusals of a version that the server has not reached, until its history is taken for another.
const TOO_NEW_MAX: u32 = 3;

/// What lists and watches a kind.
pub struct Watch {
    pub(super) kind: Kind,
    pub(super) api: Arc<Api>,
    pub(super) selectors: Arc<Selectors>,
    pub(super) feed: Arc<dyn Feed>,
    pub(super) sync: Arc<Sync>,
    pub(super) journal: Arc<Journal>,
    pub(super) counts: Counts,
    pub(super) times: Times,
    pub(super) place: Mutex<Place>,
}

/// Where the watch stands, and what has changed while somebody compares.
#[derive(Default)]
pub(super) struct Place {
    /// The version that was seen last.
    pub version: Box<str>,
    /// The version at which an event could not be read.
    stumbled: Option<Box<str>>,
    /// Hashes of the names of what has changed since a check began.
    pub touched: Option<foldhash::HashSet<u64>>,
}

/// A body that is being followed.
struct Open {
    answer: Answer,
    lines: Lines,
}

/// What one line of a watch meant, beyond its effect.
#[derive(PartialEq)]
enum Met {
    /// The end of what was there when the watch began.
    Whole,
    /// A reason to go on elsewhere.
    Trouble(Trouble),
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    #[serde(default)]
    resource_version: Box<str>,
    #[serde(default)]
    annotations: Option<BookmarkNotes>,
}

#[derive(Deserialize)]
struct BookmarkNotes {
    #[serde(default, rename = "k8s.io/initial-events-end")]
    initial_events_end: Option<Box<str>>,
}

/// When to try again.
struct Backoff {
    millis: u64,
    rng: Rng,
}

impl Backoff {
    fn new() -> Self {
        Self { millis: KUBE_BACKOFF_MILLIS_MIN, rng: Rng::from_entropy() }
    }

    fn reset(&mut self) {
        self.millis = KUBE_BACKOFF_MILLIS_MIN;
    }

    /// How long to wait now: a quarter more or less, so that those who lost the same server do not
    /// come back together.
    fn next(&mut self, trouble: &Trouble) -> Duration {
        let base = match trouble {
            Trouble::TooMany(after) => after.as_millis() as u64,
            _ => {
                let millis = self.millis;
                self.millis = (millis * 2).min(KUBE_BACKOFF_MILLIS_MAX);
                millis
            }
        };
        let base = base.min(10 * KUBE_BACKOFF_MILLIS_MAX);
        let less = if matches!(trouble, Trouble::TooMany(_)) { base } else { base - base / 4 };
        Duration::from_millis(less + u64::from(self.rng.below((base / 2 + 1) as u32)))
    }
}

/// Gives the rest of the core to others: waits in proportion to the time that work took.
struct Pace {
    busy: Duration,
    share: u32,
}

impl Pace {
    /// Takes at most so many percent of the core; all of it where nobody is served yet.
    fn new(share: Option<u32>) -> Self {
        Self { busy: Duration::ZERO, share: share.unwrap_or(100) }
    }

    /// Notes work, and waits.
    async fn after(&mut self, work: Duration) {
        self.busy += work;
        let rest = self.busy * (100 - self.share) / self.share;
        // Below the timer's grain waiting would be too much of it.
        if rest < Duration::from_millis(2) {
            return tokio::task::yield_now().await;
        }
        self.busy = Duration::ZERO;
        sleep(rest).await;
    }
}

impl Watch {
    /// Lists and watches.
    pub async fn run(self) {
        let mut backoff = Backoff::new();
        let mut streaming = true;
        let mut reason = "start";
        loop {
            self.counts.list(reason);
            let streamed = match streaming {
                true => self.stream().await.map(Some),
                false => Err(Trouble::NotStreaming),
            };
            streaming = !matches!(streamed, Err(Trouble::NotStreaming));
            let listed = match streaming {
                true => streamed,
                false => self.list().await.map(|()| None),
            };
            let open = match listed {
                Ok(open) => open,
                Err(trouble) => {
                    // A streaming list is a watch, to the server's roles too.
                    self.fail(if streaming { "watch" } else { "list" }, &trouble).await;
                    reason = trouble.reason();
                    sleep(backoff.next(&trouble)).await;
                    continue;
                }
            };
            backoff.reset();
            self.counts.synced();
            self.sync.synced(self.kind);
            self.well();
            let trouble = tokio::select! {
                trouble = self.follow(open) => trouble,
                never = self.check_now_and_then() => match never {},
            };
            self.tell("watch", &trouble);
            reason = trouble.reason();
        }
    }

    /// How much of a core a list may take: while queries are served not all of it.
    fn share(&self) -> Option<u32> {
        self.sync.has(self.kind).then_some(CONTROL_SHARE_PERCENT_MAX)
    }

    pub(super) fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A watch that begins with everything; given back where the rest follows.
    async fn stream(&self) -> Result<Open, Trouble> {
        let target = self.selectors.stream(self.kind, Rng::from_entropy().below(u32::MAX));
        let answer = self.api.get(&target).await.map_err(|trouble| match trouble {
            Trouble::Status(400 | 422, _) => Trouble::NotStreaming,
            other => other,
        })?;
        let mut open = Open { answer, lines: Lines::default() };
        self.feed.apply(Change::Begin(self.kind));
        let mut pace = Pace::new(self.share());
        loop {
            let chunk = match open.answer.chunk(STREAM).await {
                Ok(Some(chunk)) => chunk,
                // Servers that do not know the question answer another one: no end comes.
                Ok(None) | Err(Trouble::TimedOut) => return Err(Trouble::NotStreaming),
                Err(trouble) => return Err(trouble),
            };
            self.counts.alive();
            let began = Instant::now();
            match self.take_lines(&mut open.lines, &chunk, true) {
                None => pace.after(began.elapsed()).await,
                Some(Met::Whole) => return Ok(open),
                Some(Met::Trouble(trouble @ (Trouble::TooMany(_) | Trouble::Unauthorized))) => {
                    return Err(trouble);
                }
                Some(Met::Trouble(_)) => return Err(Trouble::NotStreaming),
            }
        }
    }

    /// Everything, in pages.
    async fn list(&self) -> Result<(), Trouble> {
        self.feed.apply(Change::Begin(self.kind));
        let version = self.pages(self.share(), |object| self.put(object)).await?;
        self.feed.apply(Change::End(self.kind));
        self.place().version = version.into();
        Ok(())
    }

    /// Reads all pages of a list at a share of a core; gives its version.
    pub(super) async fn pages(
        &self,
        share: Option<u32>,
        mut take: impl FnMut(Object),
    ) -> Result<String, Trouble> {
        let mut version = String::new();
        let mut next = String::new();
        let mut pace = Pace::new(share);
        loop {
            let mut answer = self.api.get_list(&self.selectors.list(self.kind, &next)).await?;
            let mut page = List::default();
            while let Some(chunk) = answer.chunk(self.times.answer).await? {
                self.counts.alive();
                let began = Instant::now();
                let fed = page.feed(&chunk, |object| match self.read(object) {
                    Ok(object) => take(object),
                    Err(why) => self.stumble(&why),
                });
                fed.map_err(|error| Trouble::Malformed(error.to_string()))?;
                pace.after(began.elapsed()).await;
            }
            let page = page.finish().map_err(|error| Trouble::Malformed(error.to_string()))?;
            self.api.listed(&answer);
            if version.is_empty() {
                version = page.metadata.resource_version;
            }
            next = page.metadata.next;
            if next.is_empty() {
                return Ok(version);
            }
        }
    }

    /// Follows the watch, however often it has to be taken up, until only a list can help.
    async fn follow(&self, mut open: Option<Open>) -> Trouble {
        let mut backoff = Backoff::new();
        let (mut too_new, mut lost) = (0, false);
        loop {
            let (trouble, moved) = match open.take() {
                Some(open) => self.read_on(open).await,
                None => match self.take_up(&mut lost).await {
                    Ok(open) => {
                        self.well();
                        self.read_on(open).await
                    }
                    Err(trouble) => (trouble, false),
                },
            };
            if moved {
                backoff.reset();
                too_new = 0;
            }
            match &trouble {
                Trouble::Gone | Trouble::NewHistory => return trouble,
                Trouble::TooNew => too_new += 1,
                _ => {}
            }
            if too_new >= TOO_NEW_MAX {
                return Trouble::NewHistory;
            }
            lost |= matches!(trouble, Trouble::Broken(_) | Trouble::Refused | Trouble::TimedOut);
            self.counts.restart(trouble.reason());
            match &trouble {
                // Nothing is wrong: at once.
                Trouble::Ended | Trouble::Silent | Trouble::Malformed(_) if moved => {
                    self.tell("watch", &trouble);
                }
                _ => {
                    self.fail("watch", &trouble).await;
                    sleep(backoff.next(&trouble)).await;
                }
            }
        }
    }

    /// Asks for the watch from where it ended. `lost`: the server was, and may have come back with
    /// another history; a watch from a version that this has not reached would be silent until it has.
    async fn take_up(&self, lost: &mut bool) -> Result<Open, Trouble> {
        if *lost {
            let mut answer = self.api.get(&self.selectors.glance(self.kind)).await?;
            let mut list = List::default();
            while let Some(chunk) = answer.chunk(self.times.answer).await? {
                let fed = list.feed(&chunk, |_| {});
                fed.map_err(|error| Trouble::Malformed(error.to_string()))?;
            }
            let list = list.finish().map_err(|error| Trouble::Malformed(error.to_string()))?;
            self.is_ahead(&list.metadata.resource_version)?;
            *lost = false;
        }
        let version = self.place().version.clone();
        let random = Rng::from_entropy().below(u32::MAX);
        let answer = self.api.get(&self.selectors.watch(self.kind, &version, random)).await?;
        Ok(Open { answer, lines: Lines::default() })
    }

    /// Reads a watch to its end; gives why it ended, and whether it had told anything.
    async fn read_on(&self, mut open: Open) -> (Trouble, bool) {
        let mut moved = false;
        // What came in one piece with the end of a streaming list.
        let mut chunk = Bytes::new();
        loop {
            if let Some(Met::Trouble(trouble)) = self.take_lines(&mut open.lines, &chunk, false) {
                return (trouble, moved);
            }
            chunk = match open.answer.chunk(self.times.silence).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return (Trouble::Ended, moved),
                Err(Trouble::TimedOut) => return (Trouble::Silent, true),
                Err(trouble) => return (trouble, moved),
            };
            moved = true;
            self.counts.alive();
        }
    }

    /// Takes the whole lines of what has come; what the first of them meant that changes anything.
    /// The lines after it are taken too, unless it was trouble.
    fn take_lines(&self, lines: &mut Lines, chunk: &Bytes, initial: bool) -> Option<Met> {
        let mut met = None;
        let mut initial = initial;
        lines.feed(chunk, |line| {
            if matches!(met, Some(Met::Trouble(_))) {
                return;
            }
            let one = match line {
                Ok(line) => self.take(line, initial),
                Err(why) => self.stumble_at(&why.to_string(), initial),
            };
            if one == Some(Met::Whole) {
                initial = false;
            }
            met = one.or(met.take());
        });
        met
    }

    /// Takes one line. `initial`: of the part that stands for a list.
    fn take(&self, line: &[u8], initial: bool) -> Option<Met> {
        let Some(event) = decode::event(line) else {
            return self.stumble_at("no event", initial);
        };
        match event.kind {
            "ADDED" | "MODIFIED" | "DELETED" => match self.read(event.object) {
                Ok(object) if initial => {
                    self.put(object);
                    None
                }
                Ok(object) => self.change(object, event.kind == "DELETED"),
                Err(why) => self.stumble_at(&why, initial),
            },
            "BOOKMARK" => {
                let Ok(bookmark) = serde_json::from_slice::<Bookmark>(event.object) else {
                    return self.stumble_at("a bookmark without a version", initial);
                };
                let meta = bookmark.metadata;
                let end = meta.annotations.and_then(|notes| notes.initial_events_end);
                if !initial {
                    return self.reach(meta.resource_version).err().map(Met::Trouble);
                }
                end.filter(|end| &**end == "true")?;
                self.feed.apply(Change::End(self.kind));
                self.place().version = meta.resource_version;
                Some(Met::Whole)
            }
            "ERROR" => {
                let status: Status = serde_json::from_slice(event.object).unwrap_or_default();
                Some(Met::Trouble(status.trouble(None)))
            }
            other => self.stumble_at(&format!("an event of type {other:?}"), initial),
        }
    }

    fn read(&self, object: &[u8]) -> Result<Object, String> {
        let mut json = serde_json::Deserializer::from_slice(object);
        let read = Object::read(self.kind, &mut json).map_err(|error| error.to_string())?;
        let named = !read.meta().name.is_empty();
        if named { Ok(read) } else { Err("an object without a name".into()) }
    }

    fn put(&self, object: Object) {
        self.feed.apply(Change::Put(object));
    }

    /// Applies an event that comes after the list.
    fn change(&self, object: Object, deleted: bool) -> Option<Met> {
        if let Err(trouble) = self.reach(object.meta().resource_version.clone()) {
            return Some(Met::Trouble(trouble));
        }
        self.counts.events(1);
        if let Some(touched) = &mut self.place().touched {
            touched.insert(key(&object));
        }
        self.feed.apply(if deleted { Change::Delete(object) } else { Change::Put(object) });
        None
    }

    /// Moves to a version.
    fn reach(&self, version: Box<str>) -> Result<(), Trouble> {
        if version.is_empty() {
            return Ok(());
        }
        self.is_ahead(&version)?;
        self.place().version = version;
        Ok(())
    }

    /// A version before ours is of another history.
    fn is_ahead(&self, version: &str) -> Result<(), Trouble> {
        match (version.parse::<u64>(), self.place().version.parse::<u64>()) {
            (Ok(new), Ok(old)) if new < old => Err(Trouble::NewHistory),
            _ => Ok(()),
        }
    }

    /// Counts and tells of something that cannot be read.
    fn stumble(&self, why: &str) {
        self.counts.malformed();
        let (kind, key) = (self.kind, format!("malformed {}", self.kind));
        let line = format!("{kind}: left out what cannot be read: {why}");
        if let Some(line) = self.journal.admit(Instant::now(), &key, &line) {
            tracing::warn!(target: "plugin/kubernetes", "{line}");
        }
    }

    /// An event cannot be read: it may have been torn on its way, so it is asked for once more.
    fn stumble_at(&self, why: &str, initial: bool) -> Option<Met> {
        self.stumble(why);
        if initial {
            return None;
        }
        let mut place = self.place();
        let here = Some(place.version.clone());
        if place.stumbled == here {
            return None;
        }
        place.stumbled = here;
        Some(Met::Trouble(Trouble::Malformed(why.to_owned())))
    }

    /// Counts and tells of a failure; has what is wrong read again.
    async fn fail(&self, verb: &str, trouble: &Trouble) {
        self.tell(verb, trouble);
        self.counts.trouble(trouble.reason());
        self.sync.failing(self.kind, Some(trouble));
        if trouble.wants_new_client() {
            self.api.forget().await;
        }
    }

    /// A request went through.
    fn well(&self) {
        if self.sync.failing(self.kind, None)
            && let Some(line) =
                self.journal.admit(Instant::now(), "well", &"the Kubernetes API answers again")
        {
            tracing::info!(target: "plugin/kubernetes", "{line}");
        }
    }

    fn tell(&self, verb: &str, trouble: &Trouble) {
        let kind = self.kind;
        let mut key = trouble.reason().to_owned();
        let mut line = format!("failed to {verb} {}: {trouble}", kind.resource());
        match trouble {
            // What a server does every few minutes.
            Trouble::Ended => return tracing::debug!(target: "plugin/kubernetes", "{line}"),
            Trouble::Forbidden(_) => {
                let (resource, group) = (kind.resource(), kind.group());
                key = format!("{key} {verb} {kind}");
                line += &format!(
                    " (the role lacks verb {verb:?} for resource {resource:?} in API group \
                     {group:?})"
                );
            }
            Trouble::Missing(_) => {
                key = format!("{key} {kind}");
                line += match kind {
                    Kind::Slices | Kind::ImportSlices => {
                        " (the server is older than Kubernetes 1.21, the first with EndpointSlice \
                         of discovery.k8s.io/v1)"
                    }
                    Kind::Imports => " (ServiceImport of multicluster.x-k8s.io is not installed)",
                    _ => "",
                };
            }
            Trouble::Malformed(_) => key = format!("{key} {kind}"),
            _ => {}
        }
        let Some(line) = self.journal.admit(Instant::now(), &key, &line) else { return };
        match trouble {
            Trouble::Gone | Trouble::Silent | Trouble::NewHistory | Trouble::Malformed(_) => {
                tracing::warn!(target: "plugin/kubernetes", "{line}");
            }
            _ => tracing::error!(target: "plugin/kubernetes", "{line}"),
        }
    }

    /// Compares, every so often, what is held with what the server holds.
    async fn check_now_and_then(&self) -> Infallible {
        let mut rng = Rng::from_entropy();
        loop {
            let millis = self.times.check.as_millis() as u32;
            // A fifth more or less: kinds and servers do not list together.
            let jitter = u64::from(rng.below(millis / 5 * 2 + 1));
            sleep(Duration::from_millis(u64::from(millis - millis / 5) + jitter)).await;
            match self.check().await {
                Ok(0) => self.counts.checked(0),
                Ok(repaired) => {
                    self.counts.checked(repaired);
                    let kind = self.kind;
                    tracing::warn!(
                        target: "plugin/kubernetes",
                        "{kind}: repaired {repaired} objects whose events had been lost"
                    );
                }
                Err(trouble) => self.tell("list", &trouble),
            }
            self.place().touched = None;
        }
    }
}

/// What tells objects of a kind apart while a check runs.
pub(super) fn key(object: &Object) -> u64 {
    use std::hash::BuildHasher;
    let meta = object.meta();
    // Seeded once a process: two runs need not agree.
    static SEED: std::sync::OnceLock<foldhash::fast::RandomState> = std::sync::OnceLock::new();
    SEED.get_or_init(Default::default).hash_one((&meta.namespace, &meta.name))
}
