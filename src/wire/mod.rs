//! DNS bytes: names, queries, records, replies. No I/O, no clock, no policy.
//!
//! Everything reads and writes messages where they are: offsets and views, no trees of owned
//! records. Nothing here allocates but what makes `String`s or tables for configuration
//! ([`Suffixes::new`], [`TsigKeys::new`], `Display`), nothing panics on any octets, nothing trusts a count or a length
//! of a packet. Parsing a query and writing a reply cost one pass each.
//!
//! | file | what |
//! |---|---|
//! | `number` | types, classes, rcodes, opcodes, option codes and their names |
//! | `name` | names: [`Name`] borrowed, [`NameBuf`] owned (RFC 1035, 4034 section 6.1, 4343) |
//! | `suffix` | [`Suffixes`]: the longest match |
//! | `header` | [`Flags`], [`Counts`], [`Question`] |
//! | `query` | [`parse_query`]: the gate's view of a query, OPT and its options (RFC 6891) |
//! | `rdata` | the form of RDATA by type (RFC 3597) |
//! | `record` | [`Record`]s of any message; [`validate`] |
//! | `compress` | the table of names in a reply |
//! | `reverse` | the address that a reverse name stands for (RFC 1035 section 3.5) |
//! | `present` | RDATA as text, off the query path |
//! | `tsig` | signed messages (RFC 8945) |
//! | `reply`, `edit` | [`Reply`]: writes a message, changes it, fits it (RFC 2181) |

mod compress;
mod edit;
mod error;
mod header;
mod name;
mod number;
mod present;
mod query;
mod rdata;
mod record;
mod reply;
mod reverse;
mod suffix;
mod tsig;

pub use edit::{AddressRows, Draft};
pub use error::{Full, NameError, WireError};
pub use header::{Counts, Flags, HEADER_BYTES, Question};
pub use name::{Labels, Name, NameBuf, labels_of, same_octets, skip_name};
pub use number::{Opcode, Rclass, Rcode, Rtype, Text, edns, opcode, rclass, rcode, rtype};
pub use present::rdata_text;
pub use query::{
    OptView, Options, QueryView, QuestionAt, Refusal, options, options_valid, parse_query,
    question_end,
};
pub use rdata::{Field, rdata_names};
pub use record::{Extent, Record, Records, Section, extent, records, set_ttl, validate};
pub use reply::{Mark, Rdata, Reply, Soa};
pub use reverse::reverse_address;
pub use suffix::Suffixes;
pub use tsig::{
    Seal, TsigAlgorithm, TsigChecked, TsigFault, TsigKey, TsigKeys, TsigMac, TsigStatus, TsigView,
    read_tsig, verify,
};
