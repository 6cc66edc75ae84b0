//! Every bound of the program, its unit (last in the name), and its reason.
//!
//! Bounds that depend on each other are asserted at compile time at the end of this file.

/// Octets of a domain name in wire form, the root label included (RFC 1035 section 2.3.4).
pub const NAME_BYTES_MAX: usize = 255;
/// Octets of one label (RFC 1035 section 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;
/// Labels of a name, the root left out: 127 labels of one octet fill 255 octets.
pub const NAME_LABELS_MAX: usize = 127;
/// Octets of a DNS message: the length field on streams has 16 bits (RFC 1035 section 4.2.2).
pub const MESSAGE_BYTES_MAX: usize = 65_535;
/// Octets of a UDP answer to a client without EDNS (RFC 1035 section 4.2.1).
pub const UDP_BYTES_MIN: usize = 512;
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

/// Connections of one admin endpoint (health, ready, metrics); more wait in the kernel's queue.
/// Probes and scrapers are a handful; each connection costs a few kilobytes and a descriptor.
pub const ADMIN_CONNECTIONS_MAX: usize = 256;
/// Octets of a request's line and headers on an admin endpoint: scrapers send less than one kilobyte.
pub const ADMIN_HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request on an admin endpoint.
pub const ADMIN_HEADERS_MAX: usize = 64;
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

// Regular expressions.

/// Octets of a regular expression (CoreDNS's).
pub const REGEXP_BYTES_MAX: usize = 10_000;
/// Octets of the machine that an expression becomes.
pub const REGEXP_MACHINE_BYTES_MAX: usize = 10 << 20;
/// Count of one repetition (Go's).
pub const REGEXP_REPEATS_MAX: u32 = 1_000;
