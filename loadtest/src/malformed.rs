//! Messages that are no queries, as hosts on the Internet send them by mistake or with intent: cut off,
//! with counts that lie, labels that overrun, pointers in circles, options that do not fit. None has
//! the QR bit: to a response nobody may answer.

use crate::message::{HEADER_LEN, write_query};
use crate::source::Random;

/// What is wrong with a message.
const KINDS: u64 = 9;

/// Writes the next malformed message into `buffer` (at least [`crate::message::QUERY_LEN_MAX`] octets);
/// returns its length.
pub fn write(random: &mut Random, buffer: &mut [u8]) -> usize {
    let bits = random.next();
    let question = b"\x07example\x03org\0\0\x01\0\x01";
    let len = write_query(buffer, bits as u16, question, None);
    let amount = (bits >> 32) as usize;
    match (bits >> 16) % KINDS {
        // Cut off within the header, and within the question.
        0 => return 1 + amount % (HEADER_LEN - 1),
        1 => return HEADER_LEN + amount % (question.len() - 1),
        // More questions, and more records, than there are.
        2 => buffer[4..6].copy_from_slice(&[0xff, 0xff]),
        3 => buffer[6..8].copy_from_slice(&[0, 9]),
        // A label beyond the end; a label of a type that is none (RFC 6891 section 5).
        4 => buffer[HEADER_LEN] = 63,
        5 => buffer[HEADER_LEN] = 0x41,
        // A name that points at itself.
        6 => buffer[HEADER_LEN..HEADER_LEN + 2].copy_from_slice(&[0xc0, HEADER_LEN as u8]),
        // OPT with options that are longer than its data.
        7 => {
            buffer[11] = 1;
            let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 10, 0, 99];
            buffer[len..len + opt.len()].copy_from_slice(&opt);
            return len + opt.len();
        }
        // Noise.
        _ => {
            for chunk in buffer[..64].chunks_mut(8) {
                chunk.copy_from_slice(&random.next().to_be_bytes());
            }
            buffer[2] &= 0x7f;
            return HEADER_LEN + amount % 52;
        }
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::QUERY_LEN_MAX;

    #[test]
    fn no_message_is_a_response_or_a_plain_query() {
        let (mut random, mut buffer) = (Random::new(1), [0; QUERY_LEN_MAX]);
        let mut lengths = std::collections::HashSet::new();
        for _ in 0..2000 {
            let len = write(&mut random, &mut buffer);
            assert!((1..=QUERY_LEN_MAX).contains(&len));
            assert!(len < 3 || buffer[2] & 0x80 == 0);
            let is_plain = len == 29
                && buffer[4..12] == [0, 1, 0, 0, 0, 0, 0, 0]
                && buffer[12..29] == *b"\x07example\x03org\0\0\x01\0\x01";
            assert!(!is_plain);
            lengths.insert(len);
        }
        assert!(lengths.len() > 20, "all kinds occur");
    }
}
