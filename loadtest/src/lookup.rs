//! Look-ups as an application's C library does them: a name is tried with each suffix of a search list
//! (resolv.conf(5)), A and AAAA asked at once, the next one when both answers are there. What a
//! cluster's pods do all day: with `ndots:5` one name outside the cluster is eight queries.
//!
//! | | glibc | musl |
//! |---|---|---|
//! | a name of at least `ndots` dots | as it is, then the search list | as it is, only |
//! | a name of fewer dots | the search list, then as it is | the same |
//! | a name without data of either type | goes on | ends |
//! | a failure (SERVFAIL, REFUSED) | goes on | ends |
//!
//! A query that is lost ends its look-up: neither would wait for less than seconds.

use crate::message::name_to_wire;

/// A and AAAA (RFC 1035, RFC 3596).
pub const TYPES: [u16; 2] = [1, 28];
const NXDOMAIN: u8 = 3;

/// Whose ways a look-up follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Resolver {
    /// The GNU C library.
    Libc,
    /// musl, as of Alpine Linux.
    Musl,
}

/// How a look-up ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// There was an address.
    Found,
    /// No name of the search had one.
    NotFound,
    /// A query was lost, or (musl) an answer was a failure.
    Failed,
}

/// What comes after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The other answer.
    Wait,
    /// The queries of the next name.
    Ask,
    /// Nothing; the look-up was due at this time (ns).
    Ended(End, u64),
}

/// An answer, as far as a look-up cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its rcode, and whether there was a record in its answer section.
    Came(u8, bool),
    /// None came.
    Lost,
}

/// A look-up under way.
#[derive(Clone, Copy, Default)]
struct Active {
    due_ns: u64,
    name: u32,
    step: u16,
    waiting: u8,
    has_data: bool,
    is_lost: bool,
    has_failed: bool,
    /// Every answer of this step was NXDOMAIN.
    is_nxdomain: bool,
}

/// All look-ups of a run.
pub struct Lookups {
    resolver: Resolver,
    /// Of each name that is asked: the wire forms of the names to try, in order.
    names: Vec<Vec<Vec<u8>>>,
    next_name: usize,
    active: Vec<Active>,
    free: Vec<u32>,
}

impl Lookups {
    /// Look-ups of the names in `text` (lines of `name type`; types do not matter), in turn, with
    /// the suffixes of `search`, separated by spaces.
    pub fn new(text: &str, search: &str, ndots: usize, resolver: Resolver) -> Result<Self, String> {
        let mut names = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let Some(name) = line.split_whitespace().next() else { continue };
            if name.starts_with([';', '#']) {
                continue;
            }
            let tried: Result<Vec<_>, _> = tries(name, search, ndots, resolver)
                .iter()
                .map(|name| name_to_wire(name))
                .collect();
            names.push(tried.map_err(|error| format!("line {}: {error}", index + 1))?);
        }
        if names.is_empty() {
            return Err("no names".into());
        }
        Ok(Self { resolver, names, next_name: 0, active: Vec::new(), free: Vec::new() })
    }

    /// Begins the next look-up; its queries are those of [`Self::name`].
    pub fn begin(&mut self, due_ns: u64) -> u32 {
        let name = self.next_name as u32;
        self.next_name = (self.next_name + 1) % self.names.len();
        let active = Active {
            due_ns,
            name,
            waiting: TYPES.len() as u8,
            is_nxdomain: true,
            ..Active::default()
        };
        match self.free.pop() {
            Some(place) => {
                self.active[place as usize] = active;
                place
            }
            None => {
                self.active.push(active);
                self.active.len() as u32 - 1
            }
        }
    }

    /// The name that a look-up asks for now, in wire form.
    pub fn name(&self, lookup: u32) -> &[u8] {
        let active = &self.active[lookup as usize];
        &self.names[active.name as usize][usize::from(active.step)]
    }

    /// How many look-ups are under way.
    pub fn len(&self) -> usize {
        self.active.len() - self.free.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the answer to one of a look-up's queries.
    pub fn settle(&mut self, lookup: u32, answer: Answer) -> Next {
        let active = &mut self.active[lookup as usize];
        active.waiting -= 1;
        match answer {
            Answer::Lost => active.is_lost = true,
            Answer::Came(rcode, has_records) => {
                active.has_data |= rcode == 0 && has_records;
                active.has_failed |= rcode != 0 && rcode != NXDOMAIN;
                active.is_nxdomain &= rcode == NXDOMAIN;
            }
        }
        if active.waiting > 0 {
            return Next::Wait;
        }
        let is_last = usize::from(active.step) + 1 == self.names[active.name as usize].len();
        let stops = self.resolver == Resolver::Musl && !active.is_nxdomain;
        let end = match *active {
            Active { is_lost: true, .. } => End::Failed,
            Active { has_data: true, .. } => End::Found,
            Active { has_failed: true, .. } if stops || is_last => End::Failed,
            _ if stops || is_last => End::NotFound,
            _ => {
                active.step += 1;
                active.waiting = TYPES.len() as u8;
                (active.has_failed, active.is_nxdomain) = (false, true);
                return Next::Ask;
            }
        };
        self.free.push(lookup);
        Next::Ended(end, active.due_ns)
    }
}

/// The names that are tried for one, in order.
fn tries(name: &str, search: &str, ndots: usize, resolver: Resolver) -> Vec<String> {
    let own = vec![name.to_owned()];
    if name.ends_with('.') {
        return own;
    }
    let searched = search.split_whitespace().map(|suffix| format!("{name}.{suffix}"));
    let has_enough = name.matches('.').count() >= ndots;
    match (has_enough, resolver) {
        (true, Resolver::Musl) => own,
        (true, Resolver::Libc) => own.into_iter().chain(searched).collect(),
        (false, _) => searched.chain(own).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Answer = Answer::Came(NXDOMAIN, false);
    const NODATA: Answer = Answer::Came(0, false);
    const DATA: Answer = Answer::Came(0, true);
    const FAILURE: Answer = Answer::Came(2, false);

    fn lookups(name: &str, resolver: Resolver) -> Lookups {
        Lookups::new(name, "ns.svc.cluster.local svc.cluster.local", 5, resolver).unwrap()
    }

    #[test]
    fn names_are_tried_in_the_order_of_resolv_conf() {
        let tried = |name, resolver| tries(name, "a b", 2, resolver);
        assert_eq!(tried("x.y", Resolver::Libc), ["x.y.a", "x.y.b", "x.y"]);
        assert_eq!(tried("x.y", Resolver::Musl), ["x.y.a", "x.y.b", "x.y"]);
        assert_eq!(tried("x.y.z", Resolver::Libc), ["x.y.z", "x.y.z.a", "x.y.z.b"]);
        assert_eq!(tried("x.y.z", Resolver::Musl), ["x.y.z"]);
        assert_eq!(tried("x.", Resolver::Libc), ["x."]);
    }

    #[test]
    fn a_name_outside_is_asked_through_the_whole_list() {
        for resolver in [Resolver::Libc, Resolver::Musl] {
            let mut all = lookups("www.example.org A\n", resolver);
            let one = all.begin(7);
            for expected in
                ["www.example.org.ns.svc.cluster.local", "www.example.org.svc.cluster.local"]
            {
                assert_eq!(all.name(one), name_to_wire(expected).unwrap());
                assert_eq!(all.settle(one, NONE), Next::Wait);
                assert_eq!(all.settle(one, NONE), Next::Ask);
            }
            assert_eq!(all.name(one), name_to_wire("www.example.org").unwrap());
            assert_eq!(all.settle(one, NODATA), Next::Wait);
            assert_eq!(all.settle(one, DATA), Next::Ended(End::Found, 7));
            assert!(all.is_empty());
        }
    }

    #[test]
    fn libc_goes_on_where_musl_ends() {
        for (answer, end) in [(NODATA, End::NotFound), (FAILURE, End::Failed)] {
            let mut musl = lookups("x A\n", Resolver::Musl);
            let one = musl.begin(0);
            musl.settle(one, answer);
            assert_eq!(musl.settle(one, answer), Next::Ended(end, 0));
            let mut libc = lookups("x A\n", Resolver::Libc);
            let one = libc.begin(0);
            for _ in 0..2 {
                libc.settle(one, answer);
                assert_eq!(libc.settle(one, answer), Next::Ask);
            }
            libc.settle(one, NONE);
            assert_eq!(libc.settle(one, NONE), Next::Ended(End::NotFound, 0));
        }
    }

    #[test]
    fn a_lost_query_ends_its_look_up_and_no_other() {
        let mut all = lookups("x A\ny A\n", Resolver::Libc);
        let (one, other) = (all.begin(1), all.begin(2));
        assert_eq!(all.settle(one, Answer::Lost), Next::Wait);
        assert_eq!(all.settle(one, DATA), Next::Ended(End::Failed, 1));
        assert_eq!(all.begin(3), one, "its place is used again");
        assert_eq!(all.len(), 2);
        all.settle(other, DATA);
        assert_eq!(all.settle(other, NONE), Next::Ended(End::Found, 2));
    }
}
