//! What workers share, and who writes it: the cost that more cores have, held at compile time.
//!
//! A cache line that two cores write goes back and forth between them, some 50 to 200 ns each time; one
//! that all read and nobody writes is in every core's cache. So no query that is answered from memory
//! writes a line that another worker reads or writes:
//!
//! | what | who writes it | how often |
//! |---|---|---|
//! | lanes, slots, walks, connections ([`Turn`] and what is around it) | its worker, nobody else can reach it | a query |
//! | counters ([`CoreTally`]) | its worker; a scrape reads | a query, in lines of its own |
//! | turn numbers (`publish`) | its worker; control reads when it has replaced something | a turn, in lines of its own |
//! | mailbox ([`Mailbox`]) | who sends mail; its worker, before it sleeps | a reload; a sleep |
//! | snapshot, tables of zones and of the cluster | control, before it publishes them | never again |
//! | the store of `cache` | who puts an entry in; who asks for one for the first time since (one bit) | a miss |
//! | health and load of an upstream (`UpstreamCells`), the turn of a policy | who forwards | a miss |
//! | flights, permits ([`crate::cells`]) | who waits | a miss |
//! | the ring of events | who tells something (`log`, an error) | a line of a log |
//!
//! Here and beside the types that are private, the compiler checks what this rests on: what is a worker's
//! cannot be shared, and what has one writer begins a line of its own, so that no other value can lie on
//! it ([`SHARED_LINE_BYTES`]; a size is a multiple of the alignment).

use super::tally::CoreTally;
use super::turn::Turn;
use super::upstream::cells::UpstreamCells;
use crate::limits::SHARED_LINE_BYTES;
use crate::mail::Mailbox;

const _: () = assert!(align_of::<Mailbox>() >= SHARED_LINE_BYTES);
const _: () = assert!(align_of::<UpstreamCells>() >= SHARED_LINE_BYTES);

/// Does not compile if the type is `Sync`: there would be two ways to name the function.
macro_rules! belongs_to_one_thread {
    ($one:ty) => {
        const _: fn() = || {
            trait Named<A> {
                fn named() {}
            }
            struct Shared;
            impl<T: ?Sized> Named<()> for T {}
            impl<T: ?Sized + Sync> Named<Shared> for T {}
            let _ = <$one as Named<_>>::named;
        };
    };
}

belongs_to_one_thread!(Turn);
belongs_to_one_thread!(CoreTally);
