//! How a query's end is told to those who wait for the same answer.
//!
//! ```text
//!  0  how it ended: 0 a message, 1 failed, 2 no reply, 3 an old answer could not be refreshed
//!  1  octets of EDNS options that go with it (16 bits), and the options
//!  .. 0: the message; 1: the rcode (16 bits), and the reason
//! ```

use std::sync::Arc;

use crate::data::chain::level::OptExtra;
use crate::plugin::{Level, ReplyState};
use crate::wire::options;

/// How the query that was waited for ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing<'a> {
    /// With this message.
    Message(&'a [u8]),
    /// With an rcode and a reason, unwritten.
    Failed(u16, &'a str),
    /// Without a reply.
    Dropped,
    /// It was to refresh an old answer, and could not.
    NotRefreshed,
}

const MESSAGE: u8 = 0;
const FAILED: u8 = 1;
const DROPPED: u8 = 2;
const NOT_REFRESHED: u8 = 3;

/// What those who wait for this level's reply are told.
pub fn of_level(level: &Level) -> Arc<[u8]> {
    let options = level.extra.as_bytes();
    let mut told = vec![DROPPED];
    told.extend((options.len() as u16).to_be_bytes());
    told.extend(options);
    match level.state {
        ReplyState::Written => {
            told[0] = MESSAGE;
            told.extend(level.reply.bytes());
        }
        ReplyState::Failed(rcode) => {
            told[0] = FAILED;
            told.extend(rcode.to_be_bytes());
            told.extend(level.reason.as_str().as_bytes());
        }
        ReplyState::Empty | ReplyState::Dropped => {}
    }
    told.into()
}

/// What those who wait for a refresh are told that failed.
pub fn not_refreshed() -> Arc<[u8]> {
    [NOT_REFRESHED, 0, 0].into()
}

/// Reads what was told: the options, and the end. None: it is not of that form.
pub fn read(told: &[u8]) -> Option<(OptExtra, Landing<'_>)> {
    let (head, rest) = told.split_first_chunk::<3>()?;
    let [how, high, low] = *head;
    let (octets, rest) = rest.split_at_checked(u16::from_be_bytes([high, low]).into())?;
    let mut extra = OptExtra::new();
    for (code, data) in options(octets) {
        extra.push(code, data);
    }
    let landing = match how {
        MESSAGE => Landing::Message(rest),
        FAILED => {
            let (rcode, reason) = rest.split_first_chunk::<2>()?;
            Landing::Failed(u16::from_be_bytes(*rcode), std::str::from_utf8(reason).ok()?)
        }
        DROPPED => Landing::Dropped,
        _ => Landing::NotRefreshed,
    };
    Some((extra, landing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read() {
        assert_eq!(read(&not_refreshed()).map(|(_, end)| end), Some(Landing::NotRefreshed));
        let failed = [FAILED, 0, 6, 0, 15, 0, 2, 0, 23, 0, 2, b'n', b'o'];
        let (extra, end) = read(&failed).expect("of the form");
        assert_eq!(end, Landing::Failed(2, "no"));
        assert_eq!(extra.as_bytes(), [0, 15, 0, 2, 0, 23]);
        assert_eq!(read(&[MESSAGE, 0, 0, 7]).map(|(_, end)| end), Some(Landing::Message(&[7])));
        for torn in [&[][..], &[0, 0], &[0, 0, 9], &[FAILED, 0, 0, 1]] {
            assert!(read(torn).is_none(), "{torn:?}");
        }
    }
}
