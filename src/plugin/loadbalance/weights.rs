//! The file with the weights of addresses, watched and replaced as it changes. Control's, but for
//! [`Weights::of`], which costs one look-up in a tree.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::control::corefile::format_duration;
use crate::plugin::site;
use crate::wire::NameBuf;

/// By name, lower-cased and in wire form: addresses with their weights.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Weights(BTreeMap<Box<[u8]>, Vec<(IpAddr, u8)>>);

impl Weights {
    /// Reads the text of `file`, which errors name.
    pub fn parse(file: &str, text: &str) -> Result<Self, String> {
        let mut weights = Self::default();
        let mut name: Option<Box<[u8]>> = None;
        for line in text.lines().map(str::trim) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [] => {}
                _ if line.starts_with('#') => {}
                [word] => {
                    let parsed =
                        NameBuf::parse(word).ok().filter(|_| word.parse::<IpAddr>().is_err());
                    let Some(parsed) = parsed else {
                        return Err(format!(
                            "wrong domain name:\"{word}\" in weight file {file}. \
                             (Maybe a missing weight value?)"
                        ));
                    };
                    let key: Box<[u8]> =
                        NameBuf::lowered(parsed.as_name()).as_name().as_bytes().into();
                    weights.0.entry(key.clone()).or_default();
                    name = Some(key);
                }
                [address, weight] => {
                    let address: IpAddr = address.parse().map_err(|_| {
                        format!("wrong IP address:\"{address}\" in weight file {file}")
                    })?;
                    let weight =
                        weight.parse::<u8>().ok().filter(|weight| *weight != 0).ok_or_else(
                            || format!("wrong weight value:\"{weight}\" in weight file {file}"),
                        )?;
                    let name = name
                        .as_ref()
                        .ok_or_else(|| format!("missing domain name in weight file {file}"))?;
                    let entry = weights.0.entry(name.clone()).or_default();
                    entry.push((address.to_canonical(), weight));
                }
                _ => {
                    return Err(format!(
                        "could not parse weight line:\"{line}\" in weight file {file}"
                    ));
                }
            }
        }
        Ok(weights)
    }

    /// The weight of an address under a name; 1 if the file does not tell.
    pub fn of(&self, name: &NameBuf, address: IpAddr) -> u8 {
        let mut lower = *name;
        lower.make_lower();
        let addresses = self.0.get(lower.as_name().as_bytes());
        let named = addresses.and_then(|all| all.iter().find(|(other, _)| *other == address));
        named.map_or(1, |(_, weight)| *weight)
    }
}

/// The file as it was read last.
pub struct Watched {
    path: PathBuf,
    reload: Duration,
    content: Vec<u8>,
}

impl Watched {
    /// A file that has not been read yet; `reload`: how often it is looked at, zero for never.
    pub fn new(path: PathBuf, reload: Duration) -> Self {
        Self { path, reload, content: Vec::new() }
    }

    /// Reads it at the start. A broken file is an error; one that cannot be opened is one only
    /// where it is never looked at again.
    pub fn load_first(&mut self) -> Result<Weights, String> {
        const CANNOT_OPEN: &str = "weight file open error";
        match self.read() {
            Ok(weights) => Ok(weights.unwrap_or_default()),
            Err(Fault::Open(error)) if error.kind() == io::ErrorKind::IsADirectory => {
                Err(format!("read {}: is a directory", self.path.display()))
            }
            Err(Fault::Open(_)) if !self.reload.is_zero() => {
                let again = format_duration(self.reload);
                tracing::warn!(
                    target: "plugin/loadbalance",
                    "Failed to open weight file:{CANNOT_OPEN}. Will try again in {again}"
                );
                Ok(Weights::default())
            }
            Err(Fault::Open(error)) => Err(format!("{CANNOT_OPEN}: {error}")),
            Err(Fault::Content(message)) => Err(message),
        }
    }

    /// Reads it again; nothing if it is as it was.
    fn read(&mut self) -> Result<Option<Weights>, Fault> {
        let content = fs::read(&self.path).map_err(Fault::Open)?;
        if content == self.content {
            return Ok(None);
        }
        let file = self.path.display().to_string();
        let weights = Weights::parse(&file, &String::from_utf8_lossy(&content));
        // A broken file is told once.
        self.content = content;
        let weights = weights.map_err(Fault::Content)?;
        tracing::info!(target: "plugin/loadbalance", "Successfully reloaded weight file {file}");
        Ok(Some(weights))
    }
}

impl site::Watched for Watched {
    type Table = Weights;

    fn wait(&self) -> Option<Duration> {
        Some(self.reload).filter(|reload| !reload.is_zero())
    }

    fn look(&mut self, _all: bool) -> Option<Weights> {
        match self.read() {
            Ok(weights) => return weights,
            Err(Fault::Open(error)) => {
                tracing::error!(target: "plugin/loadbalance", "weight file open error: {error}");
            }
            Err(Fault::Content(message)) => {
                tracing::error!(target: "plugin/loadbalance", "{message}");
            }
        }
        None
    }
}

enum Fault {
    Open(io::Error),
    Content(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_the_weights_under_them() {
        let text = "# weights\n\nwww.Example.org\n 192.0.2.1  3\n2001:db8::1 255\n\
                    other.\n192.0.2.1 7\nwww.example.org.\n192.0.2.2 2\n";
        let weights = Weights::parse("w", text).unwrap();
        let of = |name: &str, address: &str| {
            weights.of(&NameBuf::parse(name).unwrap(), address.parse().unwrap())
        };
        assert_eq!(of("WWW.example.org.", "192.0.2.1"), 3);
        assert_eq!(of("www.example.org.", "2001:db8::1"), 255);
        assert_eq!(of("www.example.org.", "192.0.2.2"), 2);
        assert_eq!(of("other.", "192.0.2.1"), 7);
        assert_eq!(of("other.", "192.0.2.9"), 1);
        assert_eq!(of("none.", "192.0.2.1"), 1);
    }

    #[test]
    fn refuses_in_coredns_s_words() {
        for (text, words) in [
            ("192.0.2.1", "wrong domain name:\"192.0.2.1\" in weight file w. (Maybe"),
            ("a.\nb 3", "wrong IP address:\"b\" in weight file w"),
            ("a.\n192.0.2.1 0", "wrong weight value:\"0\" in weight file w"),
            ("a.\n192.0.2.1 256", "wrong weight value:\"256\""),
            ("192.0.2.1 1", "missing domain name in weight file w"),
            ("a. 1 2", "could not parse weight line:\"a. 1 2\" in weight file w"),
        ] {
            let error = Weights::parse("w", text).expect_err(text);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_waited_for_or_an_error() {
        let path = PathBuf::from("/no/such/weights");
        assert_eq!(
            Watched::new(path.clone(), Duration::from_secs(1)).load_first(),
            Ok(Weights::default())
        );
        let error = Watched::new(path, Duration::ZERO).load_first().expect_err("no file");
        assert!(error.starts_with("weight file open error"), "{error}");
    }
}
