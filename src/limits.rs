//! Every bound of the program, its unit (last in the name), and its reason.
//!
//! Bounds that depend on each other are asserted at compile time at the end of this file.

/// Octets of a domain name in wire form, the root label included (RFC 1035 section 2.3.4).
pub const NAME_BYTES_MAX: usize = 255;
/// Octets of a name in presentation form: at most four for each octet (`\DDD`), and a dot.
pub const NAME_TEXT_BYTES_MAX: usize = 4 * NAME_BYTES_MAX;
/// Octets of an IP address as text: an IPv6 address with an IPv4 part.
pub const ADDRESS_TEXT_BYTES_MAX: usize = 45;
/// Octets of one label (RFC 1035 section 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;
/// Labels of a name, the root left out: 127 labels of one octet fill 255 octets.
pub const NAME_LABELS_MAX: usize = 127;
/// Octets of a DNS message: the length field on streams has 16 bits (RFC 1035 section 4.2.2).
pub const MESSAGE_BYTES_MAX: usize = 65_535;
/// Octets of a UDP answer to a client without EDNS (RFC 1035 section 4.2.1).
pub const UDP_BYTES_MIN: usize = 512;
/// Octets that a core's write takes from the caches of others: a line of 64, and its neighbour, which
/// the prefetcher of many processors takes along.
pub const SHARED_LINE_BYTES: usize = 128;
/// Octets of the shortest record: the root, and no RDATA (RFC 1035 section 4.1.3).
pub const RECORD_BYTES_MIN: usize = 11;
/// Name suffixes of a reply that later names can end in pointers to: the names of a reply of a few
/// hundred records; what is beyond is written out.
pub const COMPRESS_NAMES_MAX: usize = 64;
/// Labels of a name that is looked up for compression: an IPv6 reverse name has 34.
pub const COMPRESS_LABELS_MAX: usize = 40;
/// Names in the RDATA of one record: SOA, MINFO, RP and PX have two.
pub const RDATA_NAMES_MAX: usize = 2;

/// Label sets of one family of metrics: what Prometheus bears from one target and more than a
/// usual Corefile has; the rest is counted together as "overflow".
pub const TALLY_SETS_MAX: usize = 8192;
/// Chunks of 4,096 counter cells a core (a power of two): 16 MiB a core when all are in use.
pub const TALLY_CHUNKS_MAX: usize = 512;
/// Nanoseconds of which the quantiles of summaries tell at least, and at most twice as many: an alert
/// looks at as much.
pub const TALLY_WINDOW_NANOS: u64 = 300_000_000_000;

/// Buckets of each ranking of clients and names, a worker's (a power of two): with [`TOP_WAYS`] places
/// each, enough that whoever sends a hundredth of the queries has one.
pub const TOP_BUCKETS: usize = 16;
/// Places of a bucket: two cache lines to look through.
pub const TOP_WAYS: usize = 8;
/// Ranks that metrics, the status page and `corelane top` show: what one looks at.
pub const TOP_RANKS: usize = 10;
/// Characters of a name in `corelane top`: what a terminal is wide.
pub const TOP_COLUMNS_MAX: usize = 90;
/// Zones, caches and server blocks that the status page shows: more than one reads, and few enough that a page
/// of them is made anew every two seconds.
pub const STATUS_ROWS_MAX: usize = 200;
/// Octets that `corelane top` reads of a status: many times what its rows come to.
pub const TOP_DOCUMENT_BYTES_MAX: u64 = 16 << 20;
/// Queries that a worker looks at in a second before it looks at fewer: a busy second's worth of
/// figures, and less than a thousandth of a core.
pub const TOP_SAMPLES_MAX: u64 = 1_000;
/// After that it looks at one query in so many, and at one of a larger batch.
pub const TOP_PERIOD_QUERIES: u32 = 16;
/// Nanoseconds after which counts of rankings are halved: they tell of the last half minute.
pub const TOP_HALVING_NANOS: u64 = 15_000_000_000;
/// Attempts to read a place that changes hands: a change takes a worker some 50 ns.
pub const TOP_READS_MAX: usize = 10_000;

/// Warnings and errors that are kept for the status page: a screenful.
pub const LOG_KEPT_LINES: usize = 40;
/// Octets of each; errors quote what others have sent.
pub const LOG_KEPT_BYTES_MAX: usize = 400;

/// Connections of one admin endpoint (health, ready, metrics); more wait in the kernel's queue.
/// Probes and scrapers are a handful; each connection costs a few kilobytes and a descriptor.
pub const ADMIN_CONNECTIONS_MAX: usize = 256;
/// Octets of a request's line and headers on an admin endpoint: scrapers send less than one kilobyte.
pub const ADMIN_HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request on an admin endpoint.
pub const ADMIN_HEADERS_MAX: usize = 64;
/// Passwords of an admin endpoint that are known to be right without computing their hash again: one
/// a user of whom there are a few, oldest out first.
pub const ADMIN_PASSWORDS_KNOWN_MAX: usize = 64;
/// Seconds that an admin connection may be idle, take for a request's head or stall a write (CoreDNS's).
pub const ADMIN_TIMEOUT_SECONDS: u64 = 5;

// Corefile. What CoreDNS bounds has CoreDNS's bounds; the rest is far above any Corefile that
// serves anybody.

/// Octets of a Corefile and all files that it imports, each counted once (a ConfigMap holds at most
/// 1 MiB).
pub const COREFILE_BYTES_MAX: usize = 64 << 20;
/// Tokens of a Corefile, imports counted as often as they are spliced in: about 100 MiB of them.
pub const COREFILE_TOKENS_MAX: usize = 1_000_000;
/// Octets of one token after its environment variables are replaced.
pub const COREFILE_TOKEN_BYTES_MAX: usize = 1 << 20;
/// Imports of snippets in one load, nested ones included (as CoreDNS): ends cycles.
pub const COREFILE_SNIPPET_EXPANSIONS_MAX: usize = 10_000;
/// Imports of files in one load, nested ones included (as CoreDNS): ends cycles.
pub const COREFILE_FILE_EXPANSIONS_MAX: usize = 100_000;
/// Files that one import pattern may match.
pub const COREFILE_IMPORT_FILES_MAX: usize = 100_000;
/// Replacements of environment variables in one token: ends variables that name themselves.
pub const ENV_REPLACEMENTS_MAX: usize = 1_000;
/// Errors of one Corefile that are collected before reading stops.
pub const COREFILE_ERRORS_MAX: usize = 100;
/// Characters of a word for which a suggestion is looked for.
pub const SUGGESTION_CHARS_MAX: usize = 64;

// Go templates.

/// Octets of one Go template's text: far above any record, well below what an offset of 32 bits holds.
pub const TEMPLATE_BYTES_MAX: usize = 65_536;
/// Control blocks and parentheses of a template within each other: each takes a few frames of stack.
pub const TEMPLATE_DEPTH_MAX: usize = 64;
/// Variables that a template declares, `$` included: they live on the stack of an execution.
pub const TEMPLATE_VARIABLES_MAX: usize = 32;
/// Words of one command in a template, the function itself included.
pub const TEMPLATE_ARGUMENTS_MAX: usize = 32;
/// Nodes, commands, arguments and rounds of `range` of one execution of a template.
pub const TEMPLATE_STEPS_MAX: u32 = 10_000;
/// Octets that one execution of a template may compose on the way (`printf`, methods).
pub const TEMPLATE_SCRATCH_BYTES: usize = 2_048;
/// Octets of one record's text in the plugin *template*: a TXT record of a few kilobytes.
pub const TEMPLATE_RECORD_BYTES_MAX: usize = 8_192;

// Expressions (views, templates).

/// Octets of one expression: a page of text.
pub const EXPRESSION_BYTES_MAX: usize = 16 << 10;
/// Nodes of a program, as many as Go's package allows: their numbers have 16 bits.
pub const EXPRESSION_NODES_MAX: usize = 10_000;
/// Expressions within each other while they are read: each takes a few frames of stack.
pub const EXPRESSION_DEPTH_MAX: usize = 100;
/// Nodes from the top of a program's tree to its lowest: a run takes a frame of stack for each.
pub const EXPRESSION_HEIGHT_MAX: usize = 250;
/// Variables of a program, and of its `let` expressions.
pub const EXPRESSION_VARIABLES_MAX: usize = 64;
/// Patterns of a program: each is a machine of up to `REGEXP_MACHINE_BYTES_MAX`.
pub const EXPRESSION_PATTERNS_MAX: usize = 64;
/// Values in the lists of literals of a program.
pub const EXPRESSION_LITERALS_MAX: usize = 1_024;
/// Texts and lists that a run may hold, its literals included.
pub const EXPRESSION_MEMORY_BYTES_MAX: usize = 32 << 10;
/// Values in the lists that a run may hold, those of literals included.
pub const EXPRESSION_VALUES_MAX: usize = 2_048;
/// Steps of a run: what a query may cost before it is refused, about a millisecond.
pub const EXPRESSION_STEPS_MAX: u32 = 20_000;

// Regular expressions.

/// Octets of a regular expression (CoreDNS's).
pub const REGEXP_BYTES_MAX: usize = 10_000;
/// Octets of the machine that an expression becomes.
pub const REGEXP_MACHINE_BYTES_MAX: usize = 10 << 20;
/// Count of one repetition (Go's).
pub const REGEXP_REPEATS_MAX: u32 = 1_000;

/// Datagrams of one `recvmmsg` or `sendmmsg`: the cost of the call is spread over so many; more
/// gained nothing.
pub const BATCH_DATAGRAMS: usize = 64;

/// Longest reply that leaves together with others to the same client: fits the smallest path MTU that
/// Linux believes (552, net.ipv4.route.min_pmtu), so that nobody outside can have it refused.
pub const SEGMENT_BYTES_MAX: usize = 512;
/// Batches that leave one by one after replies could not leave together: a way that cannot do it is
/// asked so seldom that it costs nothing.
pub const GSO_REST_BATCHES: u32 = 1 << 16;

/// Client batches of one turn, all sockets together: bounded, so that streams, timers and mail get
/// their share of a saturated worker.
pub const TURN_BATCHES_MAX: usize = 4;

/// Between two looks at the files of a certificate: one that is renewed days before it ends is shown in
/// time, and so is one that a kubelet has just written.
pub const TLS_LOOK_SECONDS: u64 = 30;

/// Steps of TLS handshakes that are taken between two turns: a signature and a key exchange each, some
/// 0.2 ms together, by which datagrams wait longer.
pub const TURN_HANDSHAKES_MAX: usize = 2;

/// Queries that streams have framed and one turn walks.
pub const TURN_STREAM_QUERIES_MAX: usize = 256;

/// Timers that one turn fires.
pub const TURN_TIMERS_MAX: usize = 256;

/// Octets of a lane's buffers, one in and one out: every query and nearly every reply fits.
pub const LANE_BYTES: usize = 4096;

/// Replies over [`LANE_BYTES`] that a worker may be making at a time, 64 KiB each.
pub const LARGE_BUFFERS_MAX: usize = 16;

/// Octets of receive and of send buffer that are asked for: the kernel's default of 208 KiB holds
/// about 277 queries.
pub const SOCKET_BYTES_WANTED: usize = 4 << 20;

/// Connections that may wait to be accepted.
pub const TCP_BACKLOG_CONNECTIONS: i32 = 1024;

/// Questions that a query may ask in turn, one below the other (CNAME chases, search lists).
pub const ASK_DEPTH_MAX: usize = 10;

/// Questions that a query may ask in all.
pub const ASKS_MAX: u16 = 64;

/// Elements of a search path that are followed for a client: what Kubernetes allows a pod.
pub const SEARCH_ELEMENTS_MAX: usize = 32;

/// Waits of one query.
pub const FETCHES_MAX: u16 = 64;

/// Frames of one query over all its levels: the longest chain at every level is never met.
pub const FRAMES_MAX: usize = 128;

/// Marks of one walk (`data/chain/marks.rs`): two for each link of a stock chain, eight chains deep;
/// what comes after them is not known of.
pub const MARKS_MAX: usize = 128;

/// Walks of a worker that are marked at a time without allocating: samples never need more.
pub const MARKED_KEPT: usize = 16;

/// Walks of a worker that are marked at a time, where `trace` wants many: 6 MiB of marks.
pub const MARKED_WALKS_MAX: usize = 1_536;

/// Nanoseconds between two walks that a worker samples: a hundred a second tell enough.
pub const MARK_NANOS: u64 = 10_000_000;

/// Walks of which one at least is sampled, on average: what a sample costs is nothing among so many.
pub const MARK_STRIDE_MAX: u32 = 4_096;

/// Octets of what a server tells of a question's way: `MARKS_MAX` steps of a kibioctet, and a whole reply
/// as text.
pub const EXPLAIN_BYTES_MAX: usize = 1 << 20;

/// Octets of a datagram that `explain` says by EDNS to take, where nothing else is said: what resolvers say
/// since DNS flag day 2020, as it passes every path without fragments.
pub const EXPLAIN_BUFSIZE_BYTES: u16 = 1_232;

/// Seconds that `doctor` waits for the answer to a question: as long as resolvers in pods do.
pub const DOCTOR_ANSWER_SECONDS_MAX: u64 = 5;

/// Receives of datagrams of which one has the kernel's time stamps: its two more system calls are
/// nothing among so many.
pub const STAMPED_RECEIVES: u32 = 256;

/// Nanoseconds that a datagram can have waited in a socket's queue: what seems longer is the clock's
/// having been set.
pub const STAMP_NANOS_MAX: u64 = 60_000_000_000;

/// Octets of one plugin's frame; more goes into the walk's memory.
pub const FRAME_BYTES_MAX: usize = 32;

/// Octets that the plugins of one query may keep.
pub const WALK_MEMORY_BYTES_MAX: usize = 4096;

/// Octets of the text that says why a query failed.
pub const CAUSE_BYTES_MAX: usize = 192;

/// Octets of EDNS options that plugins leave for a reply.
pub const OPT_EXTRA_BYTES_MAX: usize = 512;

/// Age at which a waiting query is woken, whatever it waits for: clients have long given up.
pub const WALK_NANOS_MAX: u64 = 30 * 1_000_000_000;

/// Walks without a client that wait to be started, per worker.
pub const DETACHED_MAX: usize = 256;

/// Octets of the longest MAC of TSIG: HMAC-SHA512 (RFC 8945 section 6).
pub const TSIG_MAC_BYTES_MAX: usize = 64;

/// Octets of the shortest MAC that may be cut short at all (RFC 8945 section 5.2.2.1).
pub const TSIG_MAC_BYTES_MIN: usize = 10;

/// Seconds by which the clock of who reads our signatures may be wrong (RFC 8945 section 10).
pub const TSIG_FUDGE_SECONDS: u16 = 300;

/// Octets of a TSIG record of ours: the name of a key, the fixed parts, an algorithm's name, the MAC,
/// and a time.
pub const TSIG_BYTES_MAX: usize = NAME_BYTES_MAX + 10 + 13 + 16 + TSIG_MAC_BYTES_MAX + 6;

/// What workers are done with and control has yet to drop: zones whose transfers have ended, what of a
/// graph streams had kept. More than that is dropped by the worker itself, at once.
pub const SPENT_MAX: usize = 64;

/// Octets of an event from a worker to control: a name, a message's fields, some metadata.
pub const EVENT_BYTES_MAX: usize = 768;

/// Events from one worker that wait for control; more are dropped and counted.
pub const EVENTS_MAX: usize = 1024;

/// Lines that `log` writes of slow queries, a second and worker: where all are slow, a few tell.
pub const LOG_SLOW_LINES_MAX: u32 = 10;

/// Queries that `trace` lets wait for their collector at most, whatever its option says: some hundred
/// megabytes.
pub const TRACE_SPANS_MAX: usize = 100_000;

/// Spans that `trace` sends in one request at most: some megabytes.
pub const TRACE_BATCH_SPANS_MAX: usize = 10_000;

/// Seconds that a collector of traces may take for a request.
pub const TRACE_SECONDS_MAX: u64 = 5;

/// Octets of its answer: it has nothing to say but a status.
pub const TRACE_ANSWER_BYTES_MAX: usize = 1 << 16;

/// The largest factor of `dnstap`'s QUEUE, and the messages that it counts in: CoreDNS's.
pub const DNSTAP_QUEUE_MAX: usize = 4_096;
/// Messages of one QUEUE.
pub const DNSTAP_QUEUE_UNIT: usize = 10_000;

/// The largest buffer of a socket of `dnstap`: CoreDNS's.
pub const DNSTAP_WRITE_MIB_MAX: usize = 1_024;

/// Collectors that may be connected to a `dnstap listen`; each has a queue.
pub const DNSTAP_CLIENTS_MAX: usize = 16;

/// Messages that wait for one of several collectors.
pub const DNSTAP_CLIENT_QUEUE_MAX: usize = 10_000;

/// How long a collector may take to connect, to shake hands, or to take what is written: CoreDNS's.
pub const DNSTAP_TIMEOUT_SECONDS: u64 = 4;

/// Octets of a control frame of a frame stream: the format's own bound.
pub const DNSTAP_CONTROL_BYTES_MAX: usize = 512;

/// Queries that may wait on one worker: 80,000 misses a second at a silent upstream for 2 s.
pub const PARKED_SLOTS_MAX: usize = 262_144;

/// Octets of a slot.
pub const PARKED_SLOT_BYTES_MAX: usize = 1024;

/// Octets of a block that holds what does not fit into a slot.
pub const PARKED_BLOCK_BYTES: usize = 512;

/// Octets of blocks that waiting queries of one worker may hold.
pub const PARKED_BYTES_MAX: usize = 128 << 20;

/// Timers of queries that wait no longer, beyond four for each that does, before they are swept.
pub const TIMERS_STALE_MAX: usize = 1024;

/// Waiting queries of one worker at which a listener with `shed` drops new ones: as many as
/// CoreDNS's stack of responses holds.
pub const SHED_PARKED_MAX: usize = 1024;

/// Flights of misses in the process; more are led alone.
pub const FLIGHTS_MAX: usize = 65_536;

/// Flights that one query leads at a time, for itself and for what it asks; it leads more alone.
pub const FLIGHTS_LED_MAX: usize = 4;

/// Queries that wait for one flight; more walk alone.
pub const FLIGHT_WAITERS_MAX: usize = 65_536;

/// Letters that wait for one worker.
pub const MAILBOX_LETTERS_MAX: usize = 4096;

/// Generations that live at once, the current one included: a further reload waits.
pub const GENERATIONS_MAX: usize = 8;

/// Nanoseconds between two looks of a draining worker at whether its connections are gone.
pub const DRAIN_LOOK_NANOS: u64 = 5_000_000;
/// Seconds that a stop waits for queries in flight.
pub const DRAIN_SECONDS_MAX: u64 = 10;

/// Receives that a socket has in flight on the ring: a batch; 16 were as fast, more gained nothing.
pub const RING_RECEIVES: usize = BATCH_DATAGRAMS;
/// Replies of a socket that are on their way through the ring: those of two turns, in case the
/// kernel does not take the first at once.
pub const RING_SENDS_MAX: usize = 4 * BATCH_DATAGRAMS;
/// Entries of a worker's ring: what a turn submits for one socket goes in without a system call.
pub const RING_ENTRIES: u32 = 512;
/// Batches that are received last from a socket that is being closed: what its buffer may hold.
pub const LAST_BATCHES_MAX: usize = 128;

/// Connections per listener and worker: a hundred for each pod of a full node, at some 500 octets
/// of ours and 4 KiB of the kernel's each.
pub const STREAM_CONNECTIONS_MAX: usize = 16_384;

/// Connections per client address and worker: generous, since many pods may come from one address
/// (masquerading, a node-local cache), yet one address alone cannot use up a listener.
pub const STREAM_CONNECTIONS_PER_ADDRESS_MAX: usize = 2_048;

/// Queries of one connection that may wait for their replies: more than a stub or a forwarder keeps
/// outstanding. Reading stops there.
pub const STREAM_IN_FLIGHT_MAX: u32 = 128;

/// Octets of replies that a client may leave untaken before we stop reading from it: what fills a
/// usual socket buffer once more.
pub const STREAM_OUT_BYTES_MAX: usize = 128 * 1024;

/// Octets of replies that TLS has sealed and a client leaves untaken: one record (RFC 8446 section 5.1).
pub const STREAM_SEALED_BYTES_MAX: usize = 16 * 1024;

/// Octets of one read: as many queries of a usual size as may be in flight.
pub const STREAM_READ_BYTES: usize = 16 * 1024;

/// Octets that all connections of a worker may hold, parts of messages and untaken replies
/// together; who needs more is cut off.
pub const STREAM_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Queries in a worker's inbox: many turns' work, yet answered before a client asks again.
pub const STREAM_INBOX_QUERIES_MAX: usize = 1_024;

/// Buffers that a worker keeps for streams, of each of two kinds: as many as one turn uses.
pub const STREAM_BUFFER_POOL_MAX: usize = 256;

/// Between two looks at quiet connections: a quarter of the shortest time-out that can be set.
pub const STREAM_SWEEP_NANOS: u64 = 250_000_000;

/// What a connection is given to ask its first question, when its listener is closing.
pub const STREAM_FRESH_NANOS: u64 = 500_000_000;
/// How long a connection is quiet before it is closed, once another process has the listener: a client
/// that keeps one open and asks again within it loses nothing.
pub const STREAM_HANDED_ON_NANOS: u64 = 2_000_000_000;

/// Octets of one message of a hand-over: what a socket pair takes at once whatever its buffers are.
pub const HAND_OVER_BYTES_MAX: usize = 65_536;
/// Descriptors of one message: the kernel refuses more than 253.
pub const HAND_OVER_DESCRIPTORS_MAX: usize = 200;
/// Descriptors of one hand-over: 64 addresses on 256 cores, UDP and TCP.
pub const HAND_OVER_DESCRIPTORS_TOTAL_MAX: usize = 32_768;
/// What a successor is given from when it has the sockets until it serves, and a server that shall stop
/// waits for a successor that has begun.
pub const HAND_OVER_SECONDS_MAX: u64 = 30;
/// Octets of one read of the kernel's answers: what it sends at once at most.
pub const NETLINK_BYTES_MAX: usize = 32_768;
/// For the kernel's answer, which comes at once or not at all.
pub const NETLINK_SECONDS_MAX: u64 = 5;
/// What another process that holds the interface or the rules is given to end: a crash releases them a
/// moment later.
pub const NODE_LOCAL_SECONDS_MAX: u64 = 10;
/// How long the kernel keeps a node's address on an interface that lasts when nobody renews it: a server
/// that has crashed is back before, or the cluster's DNS is asked again.
pub const NODE_LOCAL_LEASE_SECONDS: u64 = 20;
/// Between two renewals: three may fail.
pub const NODE_LOCAL_RENEW_SECONDS: u64 = 5;
/// Between two looks at a node's Corefile where that does not say how often (`-reloadwithsignal`):
/// that of Kubernetes' cache.
pub const NODE_LOCAL_RELOAD_SECONDS: u64 = 10;
/// Servers in `upstreamNameservers` of the ConfigMap `kube-dns`: what Kubernetes allows.
pub const KUBE_DNS_UPSTREAMS_MAX: usize = 3;
/// For one message to be taken or come, where it is due: both sides only copy.
pub const HAND_OVER_MESSAGE_SECONDS_MAX: u64 = 5;

/// Pause after a failed accept(2): descriptors come back when connections end, and nothing tells.
pub const STREAM_ACCEPT_PAUSE_NANOS: u64 = 100_000_000;

/// Random octets that a worker takes from the kernel at a time, for some hundred queries to upstreams.
pub const SECRET_BYTES: usize = 2048;

/// UDP sockets that a worker keeps to an upstream, each with a source port of its own (RFC 5452
/// section 9.2).
pub const UPSTREAM_SOCKETS_WANTED: usize = 16;
/// UDP sockets to an upstream with those that only wait for the last replies.
pub const UPSTREAM_SOCKETS_MAX: usize = 64;
/// Queries by one UDP socket, after which another source port takes its place.
pub const UPSTREAM_SOCKET_QUERIES_MAX: u32 = 16_384;
/// Age at which a UDP socket's place is taken by another source port.
pub const UPSTREAM_SOCKET_NANOS_MAX: u64 = 60 * 1_000_000_000;
/// Queries in flight by one UDP socket: free ids are found at the first or second try.
pub const UPSTREAM_SOCKET_IN_FLIGHT_MAX: usize = 16_384;
/// Queries of one worker in flight to one upstream: a silent one at 60,000 misses a second for 2 s.
pub const UPSTREAM_IN_FLIGHT_MAX: u32 = 131_072;
/// Places of queries in flight that a worker with none in flight keeps, some 400 KiB.
pub const UPSTREAM_FLIGHTS_KEPT: usize = 4096;
/// Octets of queries that are composed before they are sent: a batch of usual ones and a long one.
pub const UPSTREAM_BATCH_BYTES: usize = 16 * 1024;
/// Connections of one worker to one upstream.
pub const UPSTREAM_CONNECTIONS_MAX: usize = 32;
/// Queries in flight by one connection from which on another is opened: few enough that a server
/// which answers in order delays nobody much.
pub const UPSTREAM_PIPELINE_WANTED: usize = 8;
/// Likewise by one HTTP/2 connection: the least number of streams that RFC 9113 wants a server to
/// grant (section 6.5.2).
pub const UPSTREAM_STREAMS_WANTED: usize = 100;
/// Queries of one HTTP/2 connection that were given up without an answer, after which another takes
/// its place: each may hold one of the streams that the server grants.
pub const UPSTREAM_STREAMS_LATE_MAX: u32 = 32;
/// Queries in flight by one connection.
pub const UPSTREAM_PIPELINE_MAX: usize = 512;
/// Sockets and connections of one worker to all upstreams: descriptors are the process's.
pub const UPSTREAM_CHANNELS_MAX: usize = 4096;
/// Octets of queries that an upstream may leave untaken on one connection.
pub const UPSTREAM_OUT_BYTES_MAX: usize = 256 * 1024;
/// What a connection may take until it is made, TLS included.
pub const UPSTREAM_CONNECT_NANOS_MAX: u64 = 5 * 1_000_000_000;
/// Messages from upstreams' streams that wait for the turn; who has more to hand over stands still.
pub const UPSTREAM_INBOX_MESSAGES_MAX: usize = 1024;
/// Messages from upstreams' streams that one turn takes.
pub const TURN_UPSTREAM_MESSAGES_MAX: usize = 256;
/// Between two looks for sockets that have been idle for too long.
pub const UPSTREAM_SWEEP_NANOS: u64 = 1_000_000_000;
/// Replies in a row that lost the case of the question, after which the upstream is asked plainly.
pub const UPSTREAM_CASE_LOST_MAX: u8 = 3;
/// For how long: an upstream may be replaced by one that keeps the case.
pub const UPSTREAM_PLAIN_NANOS: u64 = 3600 * 1_000_000_000;
/// Questions to upstreams, less the replies, from which on a worker pauses taking clients' datagrams:
/// with the batch at hand no more than a receive buffer of Linux's usual 208 KiB holds, ours or the
/// upstream's.
pub const UPSTREAM_AHEAD_MAX: u32 = 192;
/// How long such a pause lasts at most: as long as timers are exact.
pub const UPSTREAM_PAUSE_NANOS: u64 = 1_000_000;
/// For how long a worker sleeps at a time in such a pause: others take the CPU, and a batch of replies
/// comes.
pub const UPSTREAM_NAP_NANOS: u64 = 100_000;
/// Time after which half of those questions are forgotten: long against the reply of an upstream that
/// is near, short against a time-out.
pub const UPSTREAM_AHEAD_HALVING_NANOS: u64 = 16_000_000;
/// Octets of receive buffer that are asked for by a socket to an upstream: a thousand replies.
pub const UPSTREAM_SOCKET_BYTES_WANTED: usize = 1 << 20;
/// Rounds in which a turn tells queries that their upstream cannot be reached: each may ask the next.
pub const TURN_UPSTREAM_ROUNDS_MAX: usize = 16;

/// Words of eight octets of a segment of the cache's memory: 16 KiB, so that what the two ends of a
/// queue leave free is little of any budget.
pub const STORE_SEGMENT_WORDS: usize = 2048;
/// Words of a segment for an entry that is longer: the longest message with all its TTLs fits.
pub const STORE_LARGE_WORDS: usize = 10_240;
/// Chunks of 1,024 segments: a budget of 16 GiB.
pub const STORE_CHUNKS_MAX: usize = 1024;
/// Octets of an entry of the cache, with its slot, that a table is laid out for: shorter ones are rare.
pub const STORE_ENTRY_BYTES_MIN: usize = 96;
/// Segments that one put frees at most, when the budget has become smaller than what is in use.
pub const STORE_SHRINKS_MAX: usize = 8;
/// Entries that move from bucket to bucket at most, so that one put finds an empty slot: with two, a
/// table is full to six of seven slots before anything has to go for want of one.
pub const STORE_STEPS_MAX: usize = 2;
/// Entries that one put moves before it evicts the next one, asked for or not.
pub const STORE_MOVES_MAX: usize = 64;

/// Octets of all caches together, where the Corefile names no budget: three of CoreDNS's usual size.
pub const CACHE_BUDGET_BYTES: usize = 64 << 20;
/// The least budget of all caches that can be set, in octets.
pub const CACHE_BUDGET_BYTES_MIN: usize = 1 << 20;
/// Nanoseconds for which a query waits for another that asks the same: an upstream has failed by then.
pub const CACHE_JOIN_NANOS: u64 = 10_000_000_000;
/// Aliases of an answer that are followed to see whether it is one: what is longer is not stored.
pub const CACHE_ALIASES_MAX: usize = 32;
/// Look-ups of one query that found their entry being replaced, before it counts as missing.
pub const CACHE_RETRIES_MAX: usize = 4;
/// Nanoseconds after which an entry may be refreshed again when nobody told how the last one ended.
pub const CACHE_REFRESH_NANOS: u64 = WALK_NANOS_MAX;

/// Files that include each other, one in the other (`$INCLUDE`): as deep as CoreDNS goes.
pub const ZONE_INCLUDE_DEPTH_MAX: usize = 7;
/// Steps of one `$GENERATE`, less one: as many as CoreDNS takes.
pub const ZONE_GENERATE_STEPS_MAX: u32 = 65_535;
/// Records of one zone: places in the index have 28 bits of 16 octets, and a node may need 64.
pub const ZONE_RECORDS_MAX: usize = 50_000_000;
/// Aliases of one answer that are followed inside a zone: as many as CoreDNS follows.
pub const ZONE_ALIASES_MAX: usize = 10;
/// Aliases of a cluster's services that are followed in their zone for one question: as many as
/// CoreDNS follows.
pub const CLUSTER_ALIASES_MAX: usize = 11;
/// Targets of one record set (MX, SRV …) whose addresses are added: more than a reply has room for
/// in most zones, and a bound for the search for doubles.
pub const ZONE_ADDITIONAL_MAX: usize = 128;
/// Octets of the NS or SOA records of a zone that are kept ready to copy: 13 name servers fit.
pub const ZONE_TAIL_BYTES_MAX: usize = 512;
/// NSEC3 iterations of a zone that is answered with proofs: what validators still accept
/// (RFC 9276 section 3.2); each costs a SHA-1 for each of three names of an answer.
pub const NSEC3_ITERATIONS_MAX: u16 = 100;

/// Octets of a hosts file: a hundred times the longest lists of names to block.
pub const HOSTS_BYTES_MAX: u64 = 256 << 20;
/// Entries of a hosts file, names and addresses added up: some 600 MiB of table.
pub const HOSTS_ENTRIES_MAX: usize = 4_000_000;

/// Files below the directory of `auto`: each is looked at every `reload`.
pub const AUTO_FILES_MAX: usize = 100_000;
/// Directories of `auto` within each other.
pub const AUTO_DEPTH_MAX: usize = 32;

/// TOs of one use of `forward` (CoreDNS's).
pub const FORWARD_TARGETS_MAX: usize = 15;
/// Upstreams that the TOs of one use of `forward` may come to: a bit each in a query's frame.
pub const FORWARD_UPSTREAMS_MAX: usize = 64;
/// Upstreams that one query may try in one use of `forward`: twice as many as CoreDNS's TOs, and
/// half of a query's waits.
pub const FORWARD_ATTEMPTS_MAX: u8 = 32;
/// Nanoseconds after which a query tries no further upstream (CoreDNS's).
pub const FORWARD_QUERY_NANOS: u64 = 5_000_000_000;
/// Seconds between two look-ups of a host name in TO, at least: a TTL of 0 is no reason to hurry.
pub const FORWARD_LOOK_UP_SECONDS_MIN: u64 = 5;
/// Seconds between two look-ups of a host name in TO, at most: a long TTL may be a mistake.
pub const FORWARD_LOOK_UP_SECONDS_MAX: u64 = 300;
/// Failures of upstreams that wait to be looked at: all of one use, with room.
pub const FORWARD_FAILURES_MAX: usize = 256;
/// Seconds that a probe of an upstream may take (CoreDNS's).
pub const FORWARD_PROBE_SECONDS_MAX: u64 = 1;
/// Milliseconds between two probes of an upstream, at least: `health_check 0s` is no busy loop.
pub const FORWARD_PROBE_MILLIS_MIN: u64 = 10;
/// Nanoseconds without a sign of life, while queries wait, after which an upstream is asked last: more
/// than any network takes, far less than a time-out.
pub const FORWARD_UNHEARD_NANOS_MIN: u64 = 100_000_000;
/// Likewise, in times that 95 of 100 of its replies took: a resolver's own upstreams may be slow.
pub const FORWARD_UNHEARD_P95S_MIN: u64 = 4;
/// Replies of an upstream within ten seconds that tell a burst of SERVFAIL from bad luck.
pub const FORWARD_BREAKER_REPLIES_MIN: u32 = 32;
/// Replies and losses of an upstream within ten seconds that tell a bad way from bad luck.
pub const FORWARD_BREAKER_LOSSES_OF_MIN: u32 = 64;
/// Seconds for which an upstream is asked last after such a burst, at most.
pub const FORWARD_BREAKER_SECONDS_MAX: u64 = 32;
/// Queries of a hundred that `hedge` may send twice unless it says more: those past the 95th
/// percentile.
pub const FORWARD_HEDGE_PERCENT: u32 = 5;
/// Queries in a row that `hedge` may send twice: a burst, as long as the share is kept.
pub const FORWARD_HEDGES_MAX: u32 = 10;

/// Authors that `chaos` may name.
pub const CHAOS_AUTHORS_MAX: usize = 64;

// The Kubernetes API server. Where client-go has a figure, it is client-go's.

/// Seconds for a connection to the API server, TLS included.
pub const KUBE_CONNECT_SECONDS_MAX: u64 = 10;
/// Seconds that the API server may take for the head of its answer, or leave the body of a list
/// without progress.
pub const KUBE_ANSWER_SECONDS_MAX: u64 = 30;
/// Seconds without anything after which a streaming list is given up for a plain one: servers that
/// do not know streaming lists leave out the bookmark at their end.
pub const KUBE_STREAM_SECONDS_MAX: u64 = 5;
/// Objects of one page of a list: a page of slices is a few megabytes.
pub const KUBE_PAGE_OBJECTS: usize = 500;
/// Octets of one object or event: etcd takes objects of 1.5 MiB.
pub const KUBE_OBJECT_BYTES_MAX: usize = 8 << 20;
/// Octets of what a list says beside its objects, or of a refusal.
pub const KUBE_ENVELOPE_BYTES_MAX: usize = 64 << 10;
/// Milliseconds until the first new attempt; each further one waits twice as long.
pub const KUBE_BACKOFF_MILLIS_MIN: u64 = 800;
/// Milliseconds between attempts at most.
pub const KUBE_BACKOFF_MILLIS_MAX: u64 = 30_000;
/// Seconds after which the API server is asked to end a watch, at least; up to twice as many, at
/// random, so that watches of many clients are not taken up at once.
pub const KUBE_WATCH_SECONDS_MIN: u64 = 300;
/// Seconds without an event or a bookmark after which a watch is cut and taken up again: bookmarks
/// come about every minute, two of them may be lost.
pub const KUBE_SILENCE_SECONDS_MAX: u64 = 150;
/// Seconds between two checks of what is held against what the API server holds, per kind.
pub const KUBE_CHECK_SECONDS: u64 = 600;
/// Percent of a core that a check takes: nobody waits for it.
pub const KUBE_CHECK_SHARE_PERCENT_MAX: u32 = 10;
/// Objects that may change while a check runs; with more it is given up.
pub const KUBE_CHECK_CHANGES_MAX: usize = 100_000;
/// Seconds between two log lines about the same trouble with the API server.
pub const KUBE_LOG_SECONDS_MIN: u64 = 30;
/// Milliseconds between two log lines that say that the start waits for the API server (CoreDNS's).
pub const KUBE_WAIT_MILLIS: u64 = 500;
/// Seconds between two writings of the cluster's last known state.
pub const KUBE_STATE_SECONDS_MIN: u64 = 30;
/// The state is written again after so many times as long as writing it took, at least.
pub const KUBE_STATE_PAUSE_FACTOR: u32 = 20;
/// Milliseconds that the start waits for the API server where a state of an earlier run is there to
/// be served: a server that is well has answered by then.
pub const KUBE_WARM_MILLIS_MAX: u64 = 1_000;
/// Milliseconds between two publications of the cluster: what changes meanwhile is published
/// together, since each publication copies what changes after it.
pub const KUBE_PUBLISH_MILLIS: u64 = 2;
/// As many while the cluster is listed for the first time, when almost everything changes.
pub const KUBE_PUBLISH_UNSYNCED_MILLIS: u64 = 100;
/// Changes whose way to being served is measured, of those that are published together.
pub const KUBE_MEASURED_MAX: usize = 4096;
/// Octets of all manifests together: a cluster of some 100,000 endpoints.
pub const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// Manifests that are read.
pub const MANIFEST_FILES_MAX: usize = 10_000;
/// Lists within lists of a manifest: the recursion that reads them.
pub const MANIFEST_DEPTH_MAX: usize = 3;
/// Seconds between two looks at the manifests.
pub const MANIFEST_SECONDS: u64 = 1;
/// Percent of a core that control's bulk work takes while queries are served: lists, checks.
pub const CONTROL_SHARE_PERCENT_MAX: u32 = 50;

/// SRV records of one answer whose targets are looked up elsewhere: load balancers that are known by
/// name.
pub const CLUSTER_TARGETS_MAX: usize = 8;

/// Threads for what blocks: reading and parsing files.
pub const BLOCKING_THREADS_MAX: usize = 4;
/// Steps of niceness by which these threads, and those that compute passwords' hashes, stand back behind
/// workers: where they share one CPU, a zone that is parsed gets a tenth of it (weights 110 and 1,024),
/// or all that the worker leaves.
pub const BACKGROUND_NICE: i32 = 10;

/// Octets of a zone file from which on its zone may lie in huge pages.
pub const HUGE_PAGES_FILE_BYTES_MIN: u64 = 16 << 20;

const _: () = assert!(LANE_BYTES >= UDP_BYTES_MIN && LANE_BYTES <= MESSAGE_BYTES_MAX);
const _: () = assert!(FRAMES_MAX > ASK_DEPTH_MAX);
const _: () = assert!(2 * SEARCH_ELEMENTS_MAX <= ASKS_MAX as usize);
const _: () = assert!(2 * FORWARD_ATTEMPTS_MAX as u16 <= FETCHES_MAX);
const _: () = assert!(WALK_MEMORY_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(RING_RECEIVES + RING_SENDS_MAX <= RING_ENTRIES as usize);
