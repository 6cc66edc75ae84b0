//! # cache
//!
//! Stores replies of the plugins below, and answers from them.
//!
//! ## Syntax
//!
//! ```corefile
//! cache [TTL] [ZONES...] {
//!     success CAPACITY [TTL] [MINTTL]
//!     denial CAPACITY [TTL] [MINTTL]
//!     prefetch AMOUNT [DURATION [PERCENTAGE%]]
//!     serve_stale [DURATION] [immediate [RTTL [RECHECK]] | verify [TIMEOUT [RTTL [RECHECK]]]]
//!     serve_stale_policy prefer_positive
//!     servfail DURATION
//!     disable success|denial [ZONES...]
//!     keepttl
//!     budget OCTETS
//! }
//! ```
//!
//! A reply lives as long as the least TTL of its records says, at most **TTL** (3600 seconds, 1800 for
//! denials) and at least 5 seconds; all its records are given that TTL, in the reply at hand as in
//! those from the cache, where it counts down. **ZONES** are those of the block if none are named.
//!
//! * `success`, `denial`: entries at most (9,984 of each; a **CAPACITY** counts in steps of 256 from
//!   1,024 up), their longest and their shortest life in seconds. Denials are replies that a name or
//!   a type of it does not exist, and SERVFAIL and NOTIMP.
//! * `prefetch`: an entry that was asked for **AMOUNT** times without a pause of **DURATION** (1m) is
//!   asked for again, without a client, once **PERCENTAGE** (10%, from 10 to 90) of its life is left.
//! * `serve_stale`: an expired entry is served for **DURATION** (1h) more. `immediate`: at once, while it
//!   is refreshed without a client. `verify`: after the source was asked and had no answer (NOERROR or
//!   NXDOMAIN), or none within **TIMEOUT**. **RTTL** is the TTL of such replies (0; RFC 8767 recommends
//!   30s). After a failed refresh none is begun for **RECHECK** (0, at most 5m). Clients with EDNS are
//!   told: extended error 3, or 19 with NXDOMAIN (RFC 8914).
//! * `serve_stale_policy prefer_positive`: an answer, also a stale one, comes before a denial or a reply
//!   that does not answer.
//! * `servfail`: how long SERVFAIL is stored (5s, at most 5m, 0 for not at all).
//! * `disable`: nothing of that kind is stored for names in **ZONES**, or for all.
//! * `keepttl`: TTLs do not count down.
//! * `budget`: octets of all caches of the process together, with `KiB`, `MiB` or `GiB` (64MiB, at least
//!   1MiB); the largest that any block names holds. What is asked for once leaves first, so that a
//!   scan of many names displaces few that are in use.
//!
//! Entries are apart by name, type, class, DO and CD, and by EDNS options other than those between two
//! hosts (RFC 7871 client subnets among them). The AD bit is given to those who set AD or DO only.
//! Queries for the same that come while it is being asked for wait for that one reply.
//!
//! Not stored are truncated replies, those of other opcodes, zone transfers, other errors, NXDOMAIN
//! without a SOA, and aliases that lead to no answer where no SOA says for how long.
//!
//! A cache survives a reload if its own lines and all plugins below it are as they were.
//!
//! Names that a plugin below answers from memory, such as those of a cluster, are never stored: an
//! answer is as old as what the plugin knows, and a denial cannot hide what has been created since.
//! Their TTLs are bounded and they are counted as if they were stored.
//!
//! A signed denial answers for the name that was asked for only, and not for those that its NSEC or
//! NSEC3 records cover besides (RFC 8198). That is for validating resolvers: this cache verifies no
//! signature, an AD bit says nothing of who set it, and one forged record that covers a whole zone
//! would deny all of it. With a validating resolver behind `forward` most of what could be won is won
//! there.
//!
//! ## Metrics
//!
//! * `coredns_cache_entries{server, type, zones, view}`, type `success` or `denial`
//! * `coredns_cache_requests_total{server, zones, view}`
//! * `coredns_cache_hits_total{server, type, zones, view}`
//! * `coredns_cache_misses_total{server, zones, view}`
//! * `coredns_cache_prefetch_total{server, zones, view}`: refreshes of stale entries among them
//! * `coredns_cache_served_stale_total{server, zones, view}`
//! * `coredns_cache_evictions_total{server, type, zones, view}`
//! * `coredns_cache_drops_total{server, zones, view}`: replies to another question
//! * `corelane_cache_bytes{server, zones, view}`: memory that this cache has
//! * `corelane_cache_used_bytes`, `corelane_cache_budget_bytes`: memory that all caches together have,
//!   and may have
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     cache 30
//!     whoami
//! }
//! ```
//!
//! ```corefile
//! example.org {
//!     cache {
//!         success 5000
//!         denial 2500 30
//!         serve_stale 1h verify 100ms 30s
//!         disable denial sub.example.org
//!         budget 16MiB
//!     }
//!     whoami
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * Queries for what is being asked for already wait for its reply; CoreDNS asks again for each.
//! * Names of a `kubernetes` zone below without `fallthrough` are not stored: their records have the
//!   letters in which they are asked for, each time.
//! * Of queries that differ in their EDNS options, none is given the reply of another.
//! * The reply to a query without RD is not given to those with RD.
//! * `disable` holds for refreshed entries too; CoreDNS stores what a refresh brings.
//! * A TTL of 2³¹ or more counts as 0 (RFC 2181 section 8).
//! * What leaves first is not random.
//! * Zone transfers pass with the TTLs that they have.

mod counters;
mod entry;
mod kind;
mod landing;
mod serve;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use foldhash::quality::RandomState;

use super::{Compiled, CorefileError, Cx, Directive, Lines, Plugin, SetupError, Site, Step};
use crate::data::tally::Gauge;
use crate::store::{Share, Table, Wanted};
use crate::wire::NameBuf;
use counters::Cells;
pub use serve::{Frame, Scratch};
use settings::Settings;

/// The directive.
pub struct Cache {
    settings: Settings,
}

/// The link.
pub struct Link {
    settings: Settings,
    table: Arc<Table>,
    /// Names that are answered from memory below.
    memory: Vec<NameBuf>,
    /// By zone of the block, as [`Site::servers`].
    cells: Vec<Cells>,
    /// Of keys in the table.
    hash: RandomState,
    /// Of flights.
    flights: [RandomState; 2],
    /// Shown as long as the link lives.
    _sizes: Vec<Gauge>,
    _share: Share,
}

impl Directive for Cache {
    const NAME: &'static str = "cache";
    const CARRIED: bool = true;
    const RESTS_ON_BELOW: bool = true;

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        Settings::parse(lines).map(|settings| Self { settings })
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let servers = site.servers;
        let mut link = Link::new(self.settings, site.memory_zones());
        let zones: Vec<String> = link.settings.zones.iter().map(ToString::to_string).collect();
        let zones = zones.join(",");
        let cells = |server| Cells::new(site.tally, server, &zones);
        link.cells = servers.iter().map(cells).collect();
        let sizes = |server| counters::sizes(site.tally, server, &zones, &link.table);
        link._sizes = servers.iter().flat_map(sizes).collect();
        link._sizes.extend(counters::budget(site.tally, link._share.pool()));
        Ok(Compiled::link(link))
    }
}

impl Link {
    /// A cache that counts nowhere yet.
    fn new(settings: Settings, memory: Vec<NameBuf>) -> Self {
        let share = Share::new(settings.budget);
        let stale = settings.stale.map_or(0, |stale| stale.up_to as u64);
        let wanted = Wanted {
            entries_max: [settings.kept[0].entries_max, settings.kept[1].entries_max],
            stale_nanos: stale.saturating_mul(1_000_000_000),
            marks: settings.prefetch > 0 || settings.stale.is_some(),
        };
        let table = Table::new(share.pool(), wanted);
        // A worker's first miss need not wait for it; of thousands of caches most hold nothing.
        if share.pool().used() < share.pool().limit() / 4 {
            table.lay_out();
        }
        Self {
            settings,
            table,
            memory,
            cells: Vec::new(),
            hash: RandomState::default(),
            flights: [RandomState::default(), RandomState::default()],
            _sizes: Vec::new(),
            _share: share,
        }
    }
}

impl Plugin for Link {
    type Frame = Frame;
    type Local = Scratch;

    fn local(&self, _core: u16) -> Scratch {
        Scratch::default()
    }

    fn serve(&self, scratch: &mut Scratch, cx: &mut Cx<'_>) -> Step<Frame> {
        self.serve_query(scratch, cx)
    }

    fn resume(&self, scratch: &mut Scratch, cx: &mut Cx<'_>, frame: Frame) -> Step<Frame> {
        self.resume_query(scratch, cx, frame)
    }

    fn detached(&self, scratch: &mut Scratch, cx: &mut Cx<'_>, note: u64) -> Step<Frame> {
        self.begin_detached(scratch, cx, note)
    }
}
