//! Messages on a stream: each is preceded by its length in two octets (RFC 1035 section 4.2.2).

use crate::limits::MESSAGE_BYTES_MAX;

/// What stands at the front of the octets of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Front<'b> {
    /// A whole message, and what follows it.
    Message(&'b [u8], &'b [u8]),
    /// The beginning of one, or nothing.
    Part,
    /// A length of zero, and what follows it. No DNS message is empty, so there is nothing to answer.
    Empty(&'b [u8]),
}

/// Reads what stands at the front.
pub fn front(bytes: &[u8]) -> Front<'_> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<2>() else { return Front::Part };
    match u16::from_be_bytes(*prefix) {
        0 => Front::Empty(rest),
        len => match rest.split_at_checked(usize::from(len)) {
            Some((message, rest)) => Front::Message(message, rest),
            None => Front::Part,
        },
    }
}

/// Appends a message with its length; `false`, and nothing appended, if it is longer than a length
/// field can say.
pub fn append(out: &mut Vec<u8>, message: &[u8]) -> bool {
    let Ok(len) = u16::try_from(message.len()) else { return false };
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(message);
    true
}

const _: () = assert!(MESSAGE_BYTES_MAX == u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_part_stays_a_part_until_its_last_octet() {
        let framed = [0, 3, 7, 8, 9];
        for end in 0..framed.len() {
            assert_eq!(front(&framed[..end]), Front::Part);
        }
        assert_eq!(front(&framed), Front::Message(&[7, 8, 9], &[]));
    }

    #[test]
    fn a_length_of_zero_is_no_message() {
        assert_eq!(front(&[0, 0, 0, 1, 5]), Front::Empty(&[0, 1, 5]));
    }

    #[test]
    fn what_a_length_cannot_say_is_not_sent() {
        let mut out = Vec::new();
        assert!(append(&mut out, &[1; MESSAGE_BYTES_MAX]));
        let before = out.len();
        assert!(!append(&mut out, &[1; MESSAGE_BYTES_MAX + 1]));
        assert_eq!(out.len(), before);
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut stream = Vec::new();
            for message in &messages {
                prop_assert!(append(&mut stream, message));
            }
            // Whatever the cut, both sides of it together give the same messages.
            let cut = cut.index(stream.len() + 1);
            let (mut held, mut got) = (Vec::new(), Vec::new());
            for piece in [&stream[..cut], &stream[cut..]] {
                held.extend_from_slice(piece);
                let mut rest = &held[..];
                while let Front::Message(message, after) = front(rest) {
                    got.push(message.to_vec());
                    rest = after;
                }
                held = rest.to_vec();
            }
            prop_assert_eq!(got, messages);
            prop_assert!(held.is_empty());
        }
    }
}
