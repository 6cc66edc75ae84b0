//! What goes wrong with the API server, told apart, and told once.
//!
//! [`Trouble`] has a word for metrics and a line that says what to do; the short words of Go's
//! libraries are in it (`x509: certificate signed by unknown authority`), since they are what
//! operators look for. [`Journal`] lets a trouble of a kind through every `KUBE_LOG_SECONDS_MIN`:
//! five watches of a server that is gone make one line, not five a second.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::CertificateError;
use tokio::time::Instant;

use crate::limits::KUBE_LOG_SECONDS_MIN;

/// Why a request did not give what it was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// We do not know where the server is, or who we are: files, environment.
    Config(String),
    /// The server's certificate comes from nobody that we trust.
    UnknownAuthority,
    /// The server's certificate is of another time.
    Expired(String),
    /// The server's certificate is somebody else's.
    WrongName(String),
    /// Another failure of TLS.
    Tls(String),
    /// Nobody listens.
    Refused,
    /// Nobody answers.
    TimedOut,
    /// The connection did not come about or broke.
    Broken(String),
    /// 401.
    Unauthorized,
    /// 403: what the server says.
    Forbidden(String),
    /// 404: the resource does not exist there.
    Missing(String),
    /// 410, as status or as event: the history that was asked for is forgotten.
    Gone,
    /// 429, or 503 with the time to wait: the server says when to come back.
    TooMany(Duration),
    /// 504: the server has not reached the version from which on it was asked to watch.
    TooNew,
    /// A streaming list was refused (400, 422).
    NotStreaming,
    /// Any other status.
    Status(u16, String),
    /// The body was not what was asked for.
    Malformed(String),
    /// Neither event nor bookmark for too long.
    Silent,
    /// The server ended a watch.
    Ended,
    /// `resourceVersion` went back: another history, as after a restored backup.
    NewHistory,
}

impl Trouble {
    /// The word of metrics, and what the journal tells troubles apart by.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) => "config",
            Self::UnknownAuthority => "unknown_authority",
            Self::Expired(_) => "certificate_expired",
            Self::WrongName(_) => "certificate_name",
            Self::Tls(_) => "tls",
            Self::Refused => "connection_refused",
            Self::TimedOut => "timeout",
            Self::Broken(_) => "connection",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden(_) => "forbidden",
            Self::Missing(_) => "missing",
            Self::Gone => "gone",
            Self::TooMany(_) => "too_many_requests",
            Self::TooNew => "too_new",
            Self::NotStreaming => "no_streaming_list",
            Self::Status(..) => "status",
            Self::Malformed(_) => "malformed",
            Self::Silent => "silent",
            Self::Ended => "ended",
            Self::NewHistory => "new_history",
        }
    }

    /// Whether credentials and authorities are to be read again before the next attempt.
    pub fn wants_new_client(&self) -> bool {
        use Trouble::{Config, Expired, Tls, Unauthorized, UnknownAuthority, WrongName};
        let tls = matches!(self, UnknownAuthority | Expired(_) | WrongName(_) | Tls(_));
        tls || matches!(self, Config(_) | Unauthorized)
    }

    /// What a failed exchange was about.
    pub fn of_error(error: &(dyn Error + 'static)) -> Self {
        if let Some(tls) = find::<rustls::Error>(error) {
            return of_tls(tls);
        }
        let broken = Self::Broken(innermost(error));
        let Some(io) = find::<io::Error>(error) else { return broken };
        match io.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            // The library says at length what is to be thought of that.
            io::ErrorKind::UnexpectedEof => Self::Broken("closed by the server".into()),
            _ => broken,
        }
    }
}

fn of_tls(error: &rustls::Error) -> Trouble {
    use CertificateError as C;
    let rustls::Error::InvalidCertificate(why) = error else {
        return match error {
            rustls::Error::InvalidMessage(_) => {
                Trouble::Tls("the server does not speak TLS there".into())
            }
            _ => Trouble::Tls(error.to_string()),
        };
    };
    match why {
        C::UnknownIssuer | C::BadSignature => Trouble::UnknownAuthority,
        C::Expired | C::NotValidYet => Trouble::Expired("our clock or the certificate".into()),
        C::ExpiredContext { time, not_after } => {
            Trouble::Expired(format!("it is {} here, it ended at {}", at(*time), at(*not_after)))
        }
        C::NotValidYetContext { time, not_before } => {
            Trouble::Expired(format!("it is {} here, it begins at {}", at(*time), at(*not_before)))
        }
        C::NotValidForName => Trouble::WrongName("is valid for another name".into()),
        C::NotValidForNameContext { expected, presented } => {
            let names: Vec<String> = presented.iter().map(|name| plain(name)).collect();
            let names = if names.is_empty() { "no name".into() } else { names.join(", ") };
            let expected = expected.to_str();
            Trouble::WrongName(format!("is valid for {names}, not {expected}"))
        }
        other => Trouble::Tls(other.to_string()),
    }
}

/// `DnsName("a.example")`, as webpki shows it, without its clothes.
fn plain(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"').to_owned()
}

fn at(time: rustls::pki_types::UnixTime) -> String {
    let time = jiff::Timestamp::from_second(time.as_secs() as i64);
    time.map_or_else(|_| "an impossible time".into(), |time| time.to_string())
}

/// The first error of type `T` in the chain, also inside of `io::Error`s.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    if let Some(found) = error.downcast_ref::<T>() {
        // An `io::Error` that only carries another is not what broke.
        let hollow = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match hollow {
            Some(inner) => return find::<T>(inner).or(Some(found)),
            None => return Some(found),
        }
    }
    if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return find::<T>(inner);
    }
    find::<T>(error.source()?)
}

/// The text of the last error of the chain, in one line.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string().replace('\n', " ")
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) => f.write_str(why),
            Self::UnknownAuthority => f.write_str(
                "x509: certificate signed by unknown authority: \
                 the CA that we were given is not the server's",
            ),
            Self::Expired(why) => {
                write!(f, "x509: certificate has expired or is not yet valid: {why}")
            }
            Self::WrongName(why) => write!(f, "x509: certificate {why}"),
            Self::Tls(why) => write!(f, "tls: {why}"),
            Self::Refused => f.write_str("connect: connection refused"),
            Self::TimedOut => f.write_str("timed out: no answer"),
            Self::Broken(why) => write!(f, "connection failed: {why}"),
            Self::Unauthorized => f.write_str(
                "401 Unauthorized: the token is stale, missing or from another cluster's CA; \
                 it is read again",
            ),
            Self::Forbidden(why) => write!(f, "403 Forbidden: {why}"),
            Self::Missing(why) => write!(f, "404 Not Found: {why}"),
            Self::Gone => f.write_str("410 Gone: the history is forgotten, listing again"),
            Self::TooMany(after) => {
                write!(f, "the server is busy and wants to be asked again after {after:?}")
            }
            Self::TooNew => f.write_str("the server has not reached the version that we have seen"),
            Self::NotStreaming => f.write_str("the server has no streaming lists"),
            Self::Status(code, why) => write!(f, "status {code}: {why}"),
            Self::Malformed(why) => write!(f, "malformed answer: {why}"),
            Self::Silent => f.write_str("no event and no bookmark for too long, watching anew"),
            Self::Ended => f.write_str("the server ended the watch"),
            Self::NewHistory => {
                f.write_str("resourceVersion went back: the server has another history, listing")
            }
        }
    }
}

/// When each kind of trouble was told last.
#[derive(Default)]
#[allow(clippy::disallowed_types, reason = "between control's tasks, on one thread")]
pub struct Journal {
    told: Mutex<BTreeMap<String, Told>>,
}

struct Told {
    at: Instant,
    /// How many came since.
    since: u64,
}

impl Journal {
    /// The line to be logged now, if this kind of trouble has been quiet for long enough; with how
    /// many were kept quiet.
    pub fn admit(&self, now: Instant, key: &str, line: &dyn fmt::Display) -> Option<String> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.get_mut(key) {
            Some(last) if now - last.at < Duration::from_secs(KUBE_LOG_SECONDS_MIN) => {
                last.since += 1;
                None
            }
            Some(last) => {
                let since = std::mem::take(&mut last.since);
                last.at = now;
                let more = if since > 0 { format!(" ({since} more)") } else { String::new() };
                Some(format!("{line}{more}"))
            }
            None => {
                told.insert(key.to_owned(), Told { at: now, since: 0 });
                Some(line.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(Box<dyn Error + Send + Sync>);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.0)
        }
    }

    #[test]
    fn finds_what_broke_inside_of_wrappings() {
        let wrapped = |error: rustls::Error| {
            Trouble::of_error(&Outer(Box::new(io::Error::other(io::Error::other(error)))))
        };
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(wrapped(unknown), Trouble::UnknownAuthority);
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let outer = Outer(Box::new(io::Error::other(Outer(Box::new(refused)))));
        assert_eq!(Trouble::of_error(&outer), Trouble::Refused);
        let closed = io::Error::new(io::ErrorKind::UnexpectedEof, "no close_notify: https://…");
        let closed = Trouble::of_error(&Outer(Box::new(closed)));
        assert_eq!(closed, Trouble::Broken("closed by the server".into()));
        let other = Outer(Box::new(io::Error::other("dns error")));
        assert_eq!(Trouble::of_error(&other), Trouble::Broken("dns error".into()));
    }

    #[test]
    fn names_what_a_certificate_is_valid_for() {
        let why = CertificateError::NotValidForNameContext {
            expected: "api.example".try_into().unwrap(),
            presented: vec!["DnsName(\"localhost\")".into(), "IpAddress(127.0.0.1)".into()],
        };
        let trouble = of_tls(&rustls::Error::InvalidCertificate(why));
        let text = "x509: certificate is valid for localhost, 127.0.0.1, not api.example";
        assert_eq!(trouble.to_string(), text);
    }

    #[test]
    fn a_trouble_is_told_once_a_while() {
        let journal = Journal::default();
        let (refused, now) = (Trouble::Refused, Instant::now());
        assert!(journal.admit(now, "refused", &refused).is_some());
        assert!(journal.admit(now, "refused", &refused).is_none());
        assert!(journal.admit(now, "silent", &Trouble::Silent).is_some());
        let later = now + Duration::from_secs(KUBE_LOG_SECONDS_MIN);
        let line = journal.admit(later, "refused", &refused).expect("a line");
        assert_eq!(line, "connect: connection refused (1 more)");
    }
}
