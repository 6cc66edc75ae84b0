//! Fits a reply to the client (the way of a query, part 5 of 6).
//!
//! The one writer of OPT, TC and the final rcode, in this order: the failure's header and question,
//! truncation with room for OPT and TSIG (RFC 2181 section 9, RFC 6891 section 6.2.5, RFC 8945
//! section 5.3), OPT. It fits to level 0's `Asked` as the plugins left it. The turn then has the reply
//! signed (`signature.rs`), whatever became of it.

use super::chain::level::{Asked, Level, ReplyState};
use crate::limits::{MESSAGE_BYTES_MAX, UDP_BYTES_MIN};
use crate::wire::{Flags, HEADER_BYTES, Refusal, edns, options, rcode};

/// Octets of an OPT record without options (RFC 6891 section 6.1.2).
pub(super) const OPT_BYTES: usize = 11;

/// What of the client's query decides how the reply is fitted.
#[derive(Clone, Copy, Debug)]
pub struct Fit<'a> {
    /// Whether the transport is a stream.
    pub stream: bool,
    /// The request's EDNS options, in wire form.
    pub options: &'a [u8],
    /// Codes of options that go back as they came, besides the usual ones.
    pub local: &'a [u16],
    /// Octets to be kept free for TSIG.
    pub tsig_bytes: usize,
    /// Idle time-out of the connection in units of 100 ms, for RFC 7828.
    pub keepalive: u16,
}

/// Makes `level`'s reply ready to be sent. `false`: nothing is to be sent.
pub fn finish(level: &mut Level, fit: Fit<'_>) -> bool {
    match level.state {
        ReplyState::Empty | ReplyState::Dropped => return false,
        ReplyState::Written => {}
        ReplyState::Failed(rcode) => {
            level.start_reply();
            level.reply.set_rcode(rcode);
        }
    }
    let asked = level.asked;
    let options = if asked.edns { echoed(level, &asked, fit) } else { 0 };
    let last = fit.tsig_bytes + if asked.edns { OPT_BYTES + options } else { 0 };
    let limit = match fit.stream {
        true => MESSAGE_BYTES_MAX,
        // The client itself has said nothing of EDNS.
        false if asked.added_edns => UDP_BYTES_MIN,
        false => (asked.udp_size as usize).max(UDP_BYTES_MIN),
    };
    let limit = limit.min(level.reply.capacity());
    if level.reply.len() + last > limit {
        // Header and question stay, whatever the limit.
        level.reply.truncate_to(limit.saturating_sub(last));
    }
    let ext = (level.reply.rcode() >> 4) as u8;
    if asked.edns {
        let extra = level.extra.as_bytes();
        let pushed = level.reply.push_opt(asked.udp_size, ext, 0, asked.dnssec_ok, extra);
        debug_assert!(pushed.is_ok(), "truncation left room for OPT");
    } else if ext != 0 {
        // An extended rcode cannot be said without OPT (RFC 6891 section 6.1.3).
        level.reply.set_rcode(rcode::SERVFAIL);
    }
    true
}

/// Adds the options that are answered by themselves, and gives the octets of all options.
///
/// NSID, EXPIRE, COOKIE, PADDING and those that `rewrite` names go back as they came, as CoreDNS does,
/// unless an upstream has had its say on them; keepalive is answered on streams only and with our own time-out (RFC 7828
/// section 3.3.2).
fn echoed(level: &mut Level, asked: &Asked, fit: Fit<'_>) -> usize {
    if asked.options_len != 0 {
        let by_plugins = level.extra.as_bytes().len();
        for (code, data) in options(fit.options) {
            let mut left = options(&level.extra.as_bytes()[..by_plugins]);
            let goes_back = match code {
                edns::NSID | edns::EXPIRE | edns::COOKIE | edns::PADDING => true,
                code => fit.local.contains(&code),
            };
            match code {
                _ if left.any(|(other, _)| other == code) => {}
                edns::KEEPALIVE if fit.stream => {
                    level.extra.push(code, &fit.keepalive.to_be_bytes());
                }
                code if goes_back && !level.extra.is_whole() => {
                    level.extra.push(code, data);
                }
                _ => {}
            }
        }
    }
    level.extra.as_bytes().len()
}

/// Writes the reply to a message that the gate refused into `out`, and gives its length; 0 if it
/// gets none. `end`: where the question section ends, if it could be read.
pub fn refuse(refusal: Refusal, request: &[u8], end: Option<usize>, out: &mut [u8]) -> usize {
    let code = match refusal {
        Refusal::Silent => return 0,
        Refusal::FormErr => rcode::FORMERR,
        Refusal::NotImp => rcode::NOTIMP,
        Refusal::BadVers => rcode::BADVERS,
    };
    write_failure(code, request, end, out)
}

/// As `refuse`, with `code`: a reply of header and question, made from the octets of the request
/// alone. A request without a header gets none.
pub fn write_failure(code: u16, request: &[u8], end: Option<usize>, out: &mut [u8]) -> usize {
    if request.len() < HEADER_BYTES {
        return 0;
    }
    let asked = Flags(u16::from_be_bytes([request[2], request[3]]));
    let query = asked.opcode() == 0;
    let flags = Flags::default()
        .with_qr(true)
        .with_opcode(asked.opcode())
        .with_rd(asked.rd())
        .with_cd(query && asked.cd() && end.is_some())
        .with_rcode((code & 15) as u8);
    let fits = |end: &usize| *end <= request.len() && *end + OPT_BYTES <= out.len();
    let end = end.filter(fits).unwrap_or(HEADER_BYTES);
    out[..end].copy_from_slice(&request[..end]);
    out[2..4].copy_from_slice(&flags.0.to_be_bytes());
    out[4..HEADER_BYTES].fill(0);
    out[5] = u8::from(end > HEADER_BYTES);
    if code == rcode::BADVERS {
        // The version that is spoken here is 0 (RFC 6891 section 6.1.3).
        out[11] = 1;
        let opt = [0, 0, 41, 0, 0, (code >> 4) as u8, 0, 0, 0, 0, 0];
        out[end..end + OPT_BYTES].copy_from_slice(&opt);
        return end + OPT_BYTES;
    }
    end
}
