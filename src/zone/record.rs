//! One record from its text, outside of a zone: what templates and configurations write.

use super::lex::{Fault, Lexer, Token};
use super::rdata::{self, Case};
use super::scan;

/// TTL of a record that states none, in seconds.
const TTL_SECONDS: u32 = 3600;
/// Names without a final dot are below the root.
const ORIGIN: &[u8] = &[0];

/// What a record is, besides its owner and RDATA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead {
    /// Type.
    pub rtype: u16,
    /// Class, IN if the text states none.
    pub rclass: u16,
    /// TTL in seconds, an hour if the text states none.
    pub ttl: u32,
}

/// Reads the first record of `text`, in the form of a zone file (RFC 1035 section 5). Directives
/// are faults. Names keep their case; `owner` and `rdata` become the record's, uncompressed.
pub fn record(text: &[u8], owner: &mut Vec<u8>, rdata: &mut Vec<u8>) -> Result<RecordHead, Fault> {
    owner.clear();
    rdata.clear();
    let mut lexer = Lexer::new(text, 1);
    let (first, blank) = loop {
        if lexer.is_done() {
            return Err(Fault::new("no record", &lexer.here()));
        }
        lexer.begin();
        let blank = lexer.at_blank();
        if let Token::Word(word) = lexer.next()? {
            break (word, blank);
        }
    };
    let mut word = first;
    if blank {
        owner.extend_from_slice(ORIGIN);
    } else {
        rdata::name(word.text, ORIGIN, false, owner)
            .ok_or_else(|| Fault::new("bad owner name", &word))?;
        word = lexer.word("unexpected newline")?;
    }
    let (ttl, class, rtype) = scan::head(word, &mut lexer)?;
    rdata::parse(&mut lexer, rtype, ORIGIN, Case::Kept, rdata)?;
    if rdata.len() > usize::from(u16::MAX) {
        return Err(Fault::new("rdata is longer than 65535 octets", &first));
    }
    Ok(RecordHead { rtype, rclass: class.unwrap_or(1), ttl: ttl.unwrap_or(TTL_SECONDS) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Name, rclass, rtype};

    fn read(text: &str) -> Result<(String, RecordHead, Vec<u8>), String> {
        let (mut owner, mut rdata) = (vec![1, 2], vec![3]);
        let head = record(text.as_bytes(), &mut owner, &mut rdata).map_err(|f| f.to_string())?;
        let name = Name::from_wire(&owner).map(|(name, _)| name.to_string());
        Ok((name.map_err(|error| error.to_string())?, head, rdata))
    }

    #[test]
    fn what_is_left_out_has_defaults() {
        let head = RecordHead { rtype: rtype::A, rclass: rclass::IN, ttl: 3600 };
        let octets = vec![192, 0, 2, 1];
        for text in ["www.Example A 192.0.2.1", "\n; none\nwww.Example. A (\n192.0.2.1 )\nx"] {
            assert_eq!(read(text), Ok(("www.Example.".into(), head, octets.clone())), "{text}");
        }
        let stated = RecordHead { rclass: rclass::CH, ttl: 90, ..head };
        assert_eq!(read(" 1m30s CH A 192.0.2.1"), Ok((".".into(), stated, octets)));
    }

    #[test]
    fn names_keep_their_case() {
        for kind in ["CNAME", "NS", "PTR", "DNAME"] {
            let (owner, _, rdata) = read(&format!("A.Example. 60 IN {kind} B.Example")).unwrap();
            assert_eq!((owner.as_str(), &rdata[..]), ("A.Example.", &b"\x01B\x07Example\0"[..]));
        }
    }

    #[test]
    fn what_is_no_record_is_a_fault() {
        for text in [
            "",
            "\n\n",
            "; comment",
            "a.",
            "a. 60 IN",
            "a. IN A",
            "a. A 1.2.3",
            "a. NOPE x",
            "a. A 192.0.2.1 x",
            "$TTL 60",
            "$ORIGIN a.\nb A 192.0.2.1",
            "a..b A 192.0.2.1",
            "a. TXT \"x",
            "a. MX 10 (m.",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
