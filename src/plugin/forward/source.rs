//! Where a set of upstreams comes from, and when it is made again.
//!
//! Host names are looked up when they are due; files, certificates among them, are read again when
//! the Corefile is reloaded. What fails changes nothing, and says so in the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::options::{Options, TlsFiles};
use super::resolve::AGAIN;
use super::set::{Maker, Set};
use super::target::{Expanded, Scheme, Target, expand};
use super::tls::Tls;
use crate::control::corefile::Place;
use crate::data::tally::Tally;
use crate::plugin::Site;
use crate::plugin::site::Watched;
use crate::publish::Published;

/// Makes the sets of one use of the directive.
pub struct Source {
    targets: Vec<(Target, Place)>,
    resolvers: Vec<std::net::SocketAddr>,
    files: TlsFiles,
    tls: Option<Tls>,
    maker: Maker,
    /// Whether host names are among the targets.
    names: bool,
    due: Option<Instant>,
    current: Arc<Set>,
}

impl Source {
    /// Makes the first set. Waits for files and look-ups.
    ///
    /// # Errors
    /// What is wrong, and where, in CoreDNS's words.
    pub fn start(
        options: &Options,
        tally: &Arc<Tally>,
    ) -> Result<(Self, Arc<Set>), (Place, String)> {
        let at = |message| (options.place.clone(), message);
        let expanded = expand(&options.targets, &options.resolvers)?;
        if expanded.addresses.is_empty() {
            return Err(at("no valid upstream addresses found".into()));
        }
        let mut maker = Maker::new(options, tally);
        let tls_at = |message| {
            let place = options.tls.place.clone();
            (place.unwrap_or_else(|| options.place.clone()), message)
        };
        // CoreDNS reads what `tls` names whether or not an upstream needs it.
        let needed = options.tls.place.is_some() || has_tls(&expanded);
        let tls = needed.then(|| Tls::load(&options.tls)).transpose().map_err(tls_at)?;
        if let Some(tls) = &tls {
            maker.trust(tls);
        }
        let due = expanded.again;
        let set = Arc::new(maker.make(expanded.addresses, None).map_err(at)?);
        let source = Self {
            targets: options.targets.clone(),
            resolvers: options.resolvers.clone(),
            files: options.tls.clone(),
            tls,
            maker,
            names: due.is_some(),
            due: due.map(|due| Instant::now() + due),
            current: Arc::clone(&set),
        };
        Ok((source, set))
    }

    /// Makes another set if there is one.
    fn look(&mut self, all: bool) -> Option<Arc<Set>> {
        let due = self.due.is_some_and(|due| due <= Instant::now());
        if !all && !due {
            return None;
        }
        let looked = expand(&self.targets, &self.resolvers);
        let again = looked.as_ref().ok().and_then(|expanded| expanded.again).unwrap_or(AGAIN);
        self.due = self.names.then(|| Instant::now() + again);
        let made = looked.map_err(|(_, why)| why).and_then(|expanded| self.make(expanded, all));
        match made {
            Ok(made) => made,
            Err(why) => {
                tracing::warn!(target: "plugin/forward", "{why}: the upstreams stay as they were");
                None
            }
        }
    }

    fn make(&mut self, expanded: Expanded, all: bool) -> Result<Option<Arc<Set>>, String> {
        if expanded.addresses.is_empty() {
            return Err("no valid upstream addresses found".into());
        }
        let stale = self.tls.as_ref().is_some_and(|tls| !tls.is_current(&self.files));
        if all && stale || self.tls.is_none() && has_tls(&expanded) {
            let tls = Tls::load(&self.files)?;
            self.maker.trust(&tls);
            self.tls = Some(tls);
        }
        let set = Arc::new(self.maker.make(expanded.addresses, Some(&self.current))?);
        let same = set.members.len() == self.current.members.len()
            && set.members.iter().zip(&self.current.members).all(|(a, b)| Arc::ptr_eq(a, b));
        if same {
            return Ok(None);
        }
        let list: Vec<&str> = set.members.iter().map(|one| &*one.upstream.label).collect();
        tracing::info!(target: "plugin/forward", "upstreams are now {}", list.join(" "));
        self.current = Arc::clone(&set);
        Ok(Some(set))
    }
}

fn has_tls(expanded: &Expanded) -> bool {
    expanded.addresses.iter().any(|address| address.scheme != Scheme::Dns)
}

/// All uses of one block.
struct Sources(Vec<Source>);

impl Watched for Sources {
    type Table = Vec<(usize, Arc<Set>)>;

    fn wait(&self) -> Option<Duration> {
        let due = self.0.iter().filter_map(|source| source.due).min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    fn look(&mut self, all: bool) -> Option<Self::Table> {
        let looked = self.0.iter_mut().map(|source| source.look(all)).enumerate();
        let fresh: Vec<_> = looked.filter_map(|(index, set)| Some((index, set?))).collect();
        (!fresh.is_empty()).then_some(fresh)
    }
}

/// Has control look at the sources when they are due.
pub fn watch(sources: Vec<Source>, sets: Vec<Arc<Published<Set>>>, site: &mut Site<'_>) {
    site.watch(Sources(sources), move |turns, fresh| {
        for (index, set) in fresh {
            sets[index].set_arc(turns, set);
        }
    });
}
