//! corelane: a DNS data plane for Kubernetes, a drop-in for CoreDNS.
//!
//! This page is the architecture: the two planes and what crosses between them, the life of a query,
//! the laws of the chain, the map of the tree. What a module guarantees, costs and implements stands
//! at the head of its file.
//!
//! # Two planes
//!
//! ```text
//!  data plane: one worker a core                        control plane
//!  bytes in → query → route → chain → reply → bytes out one thread decides: start, signals, reload
//!                       ▲                │              one thread for health, ready and metrics
//!                       └── publish ─────┴─ mail, cells ► a bounded pool of threads reads files
//! ```
//!
//! The data plane answers. A worker is a thread with a current-thread runtime, its own UDP socket and
//! TCP listener (SO_REUSEPORT) for each address that is listened on, its own counters, buffers and
//! readers of tables. Workers share nothing that a query answered from memory touches. As many are
//! started as the CPU quota and the affinity mask allow.
//!
//! The control plane decides. It reads a Corefile, compiles it to a graph, binds what is new, and
//! publishes the graph's [`Snapshot`](snapshot::Snapshot); it drops what no worker holds any more. A
//! Corefile that does not build leaves everything as it was.
//!
//! Three things cross, and nothing else:
//!
//! - [`publish`], downwards: immutable values behind an arc-swap, read through a worker's own
//!   [`Reader`](publish::Reader), an ordinary pointer that the worker refreshes between turns. Each
//!   worker publishes the number of its turn and the oldest generation that it holds; control keeps
//!   what it has replaced until all have passed, so the last drop is never a worker's.
//! - [`mail`]: a bounded ring to each worker (a snapshot is published, a table was replaced, a
//!   flight has landed, drain), and a ring of events from each worker to control (what
//!   [`Cx::tell`](data::chain::Cx::tell) puts in: log lines, errors, counters with labels made from
//!   the query), with a queue of what control shall drop for the workers. A full ring drops and counts;
//!   nobody waits. An eventfd wakes a worker, only when it sleeps.
//! - [`cells`]: what workers share: flights of misses, and permits for what is bounded in the whole
//!   process. Touched by a query that waits, never by one that is answered from memory.
//!
//! # The life of a query
//!
//! Six files, to be read in this order:
//!
//! 1. `data/worker.rs`: the turn. Mail, timers, at most four batches of datagrams with the sockets in
//!    rotation, what streams have framed, late replies; then the turn's number is published, and the
//!    worker lets its runtime run or sleeps until a socket, a stream, mail or a timer wakes it.
//! 2. `data/transport/mmsg.rs`: one `recvmmsg` fills up to 64 *lanes*, 4 KiB in and 4 KiB out each; one
//!    `sendmmsg` sends their replies, those to one client together. `uring.rs` receives and sends by
//!    io_uring behind the seam `engine.rs`; `stream.rs` frames TCP in tasks on the worker's runtime and
//!    puts messages into an inbox that only the turn empties, so whatever a message came by, it passes
//!    through the same gate.
//! 3. `data/turn/batch.rs`: a batch in phases, so that the latency of memory is paid once a batch:
//!    parse all ([`wire::parse_query`] is the one gate, in place, trusting no count); route and hint
//!    all (a leaf touches what its answer will read); walk and finish all. `data/turn.rs` is what
//!    becomes of a walk. Neither knows a socket or reads a clock: a test turns them by hand.
//! 4. `data/route.rs`: which server block serves the question: the longest of the listener's zones,
//!    DS questions above the cut.
//! 5. `data/chain/walk.rs`: the one loop that moves the cursor down the block's compiled chain and up
//!    again. A link is a [`Plugin`](plugin::Plugin); what it may say is a
//!    [`Step`](data::chain::Step), what it sees is a [`Cx`](data::chain::Cx), and where the query
//!    stands is plain data: a cursor, a stack of frames, a stack of levels (questions with their replies).
//!    A query that waits is therefore copied into a *slot* (`data/slot.rs`) and goes on from there, in
//!    the generation that it began in; no native stack and no future survives a wait. A stream, which
//!    may wait for long, keeps of a generation only the links that it will be resumed in.
//!    What is asked of an upstream goes out by the worker's own sockets (`data/upstream/`): composed
//!    from the level's question, sent in one batch at the end of the turn, and what comes back is
//!    matched with it before anything else is done.
//! 6. `data/finish.rs`: fits the reply to the client: failures written, truncation with TC, OPT and its
//!    options. It alone writes these. The reply stands in the lane's own buffer: nothing is copied
//!    before it is sent.
//!
//! # The laws of the chain
//!
//! 1. A level's question (name, type, class) never changes; to ask another, a plugin says
//!    `Step::Ask`. The rest of the level's query, [`Asked`](data::chain::Asked), a plugin may change
//!    for those below it. `finish` fits to what level 0's has become.
//! 2. A reply only moves up; whoever resumes may edit it in place. Octets from elsewhere become a reply
//!    only by `Reply::adopt`, which walks them once, whole.
//! 3. `serve` and `resume` never block, await or log, and neither lock nor allocate. Every walk is
//!    bounded in frames, depth, questions and waits; past a bound it is SERVFAIL and a counter. Nothing
//!    borrowed survives a step: it is in the reply, the frame, or `Cx::keep`, as plain data. What is
//!    counted survives in three places, all of them the walk's, which gives it back however it ends: a
//!    value that a stream hands out (`Cx::carry`), a permit (`Cx::hold`), led flights (`Cx::lead`).
//! 4. A reply is Empty, Written, Failed(rcode) or Dropped ([`ReplyState`](data::chain::ReplyState)).
//!    Written says nothing of its rcode. Failed is an rcode that no plugin wrote, which `finish` writes.
//!    A chain that ends without an answer is Failed(SERVFAIL); Empty and Dropped send nothing.
//! 5. I/O is a value. A wait is a [`Fetch`](data::chain::Fetch) with a deadline, and lateness is one of
//!    its results. What is told to control goes through a lossy, counted ring; a walk without a
//!    client (`Cx::detach`) has a slot and bounds like any other.
//! 6. A packet never ends the process: batches and walks run under `catch_unwind`, and a panic is
//!    SERVFAIL for that query and a counter. An operator who wants to see it end there says `debug`.
//!
//! # The map of the tree
//!
//! Layers, kept by `tests/tidy`: `wire` names nothing of ours but `limits`; `data` never names
//! `control`; `plugin` sees both sides, since a plugin's file holds what it does on either.
//!
//! In the order in which a newcomer reads them:

// Every bound of the program, its unit, its reason.
pub mod limits;

// DNS bytes: names, queries, records, replies. No I/O, no clock, no policy.
pub mod wire;

// THE DATA PLANE, in the order a query meets it.
pub mod data;

// What control hands to the data plane: listeners, server blocks, their chains.
pub mod snapshot;

// The first crossing: immutable values, swapped whole.
pub mod publish;

// The second crossing: bounded rings of messages, and what wakes a sleeper.
pub mod mail;

// The third crossing: what workers share, for queries that wait.
pub mod cells;

// The plugins, a file or folder each; `mod.rs` is the contract, `registry.rs` the one ordered list.
pub mod plugin;

// THE CONTROL PLANE: supervisor, Corefile, compiler, reload, HTTP end points, logs, sub-commands.
pub mod control;

// A library: zone files in, answers out (`file` and its kin).
pub mod zone;

// A library: a cluster's objects in, the answers of the Kubernetes DNS specification out.
pub mod cluster;

// A library: what `cache` stores messages in: read without a lock, one budget of octets.
pub mod store;

// A library: Go's `text/template`, as far as DNS records need it.
pub mod gotemplate;

// A library: the expressions of views and templates.
pub mod expression;

// A library: Go's regular expressions, as Corefiles have them.
pub mod regexp;

// What the kernel tells and does: descriptors, affinity, quotas. With `data/transport` the only
// place of `unsafe`.
pub mod sys;
