//! What a `kubernetes` directive says.

use std::path::PathBuf;
use std::time::Duration;

pub use crate::cluster::answer::Pods;
use crate::cluster::object::Kind;
use crate::cluster::record::Reading;
use crate::cluster::selector::Selector;
use crate::cluster::writer::Holding;
use crate::control::corefile::{
    CorefileError, Fallthrough, Lines, OptionLine, Place, Token, no_number, parse_duration,
    zones_of_text,
};
use crate::control::kube::{Connect, Limits, Selectors, Times, Tls};
use crate::wire::NameBuf;

const OPTIONS: &[&str] = &[
    "apiserver_burst",
    "apiserver_max_inflight",
    "apiserver_qps",
    "corelane_state",
    "endpoint",
    "endpoint_pod_names",
    "fallthrough",
    "ignore",
    "kubeconfig",
    "labels",
    "manifests",
    "multicluster",
    "namespace_labels",
    "namespaces",
    "noendpoints",
    "pods",
    "startup_timeout",
    "tls",
    "ttl",
    "zonal",
];
const TTL_MAX: i64 = 3600;

/// Where the objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objects {
    /// An API server.
    Api(Connect),
    /// Files and directories, and where the option stands.
    Manifests(Vec<PathBuf>, Place),
}

/// All that a directive says, and what follows from what it does not say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The zones, in lower case, in their order in the directive or else the block's.
    pub zones: Vec<NameBuf>,
    /// Which of them the names in PTR and SRV records end in: the first that is not below
    /// `in-addr.arpa.` or `ip6.arpa.`.
    pub primary: usize,
    /// Those of the zones that are of the cluster set.
    pub multicluster: Vec<NameBuf>,
    /// Seconds that records live, but for the version's.
    pub ttl: u32,
    /// What is answered for the names of pods.
    pub pods: Pods,
    /// Whether endpoints without a hostname have the name of their pod.
    pub endpoint_pod_names: bool,
    /// Whether endpoints are known at all (no `noendpoints`).
    pub endpoints: bool,
    /// Whether a service with an address but without ready endpoints does not exist.
    pub ignore_empty_service: bool,
    /// Whether topology zones have names.
    pub zonal: bool,
    /// The namespaces that are shown; empty for all.
    pub namespaces: Vec<Box<str>>,
    /// Which services, slices and pods there are.
    pub labels: Selector,
    /// Which namespaces and service imports there are.
    pub namespace_labels: Selector,
    /// Names that do not exist are handed on, of these zones.
    pub fallthrough: Fallthrough,
    /// How long the start waits for the API server.
    pub startup_timeout: Duration,
    /// How hard the API server may be asked.
    pub limits: Limits,
    /// Where the objects come from.
    pub objects: Objects,
    /// Where the last known state is kept, if it is.
    pub state: Option<PathBuf>,
}

impl Settings {
    /// Reads the directive.
    ///
    /// # Errors
    /// What is wrong, in CoreDNS's words.
    pub fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let stanza = lines.only_one()?;
        let zones = lines.zones_of(&stanza.args);
        let is_forward = |zone: &NameBuf| !is_below_reverse(zone);
        let Some(primary) = zones.iter().position(is_forward) else {
            return Err(lines.err(&stanza.name, "non-reverse zone name must be used"));
        };
        let mut settings = Self {
            zones,
            primary,
            multicluster: Vec::new(),
            ttl: 5,
            pods: Pods::Disabled,
            endpoint_pod_names: false,
            endpoints: true,
            ignore_empty_service: false,
            zonal: false,
            namespaces: Vec::new(),
            labels: Selector::default(),
            namespace_labels: Selector::default(),
            fallthrough: Fallthrough::OFF,
            startup_timeout: Duration::from_secs(5),
            limits: Limits::default(),
            objects: Objects::Api(Connect::InCluster),
            state: None,
        };
        let mut source = Source::default();
        for option in &stanza.options {
            let known = settings.read(lines, option)?
                || settings.read_limits(lines, option)?
                || source.read(lines, option)?;
            if !known {
                return Err(lines.unknown_option(&option.name, OPTIONS));
            }
        }
        settings.objects = source.settle(lines)?;
        settings.agree(lines, &stanza.name)?;
        Ok(settings)
    }

    /// Whether the options go together.
    fn agree(&self, lines: &Lines<'_>, at: &Token) -> Result<(), CorefileError> {
        if !self.namespaces.is_empty() && self.namespace_labels != Selector::default() {
            let words = "namespaces and namespace_labels cannot both be set";
            return Err(lines.parse_err(at, words));
        }
        if let Some(zone) = self.multicluster.iter().find(|zone| !self.zones.contains(zone)) {
            let ours: Vec<String> = self.zones.iter().map(ToString::to_string).collect();
            let words = "is not authoritative for the multicluster zone";
            let ours = ours.join(" ");
            let words = format!("{words} {zone} (authoritative zones: [{ours}])");
            return Err(lines.parse_err(at, words));
        }
        if self.zonal && !self.endpoints {
            let words = "zonal requires the endpoint cache; remove noendpoints";
            return Err(lines.parse_err(at, words));
        }
        Ok(())
    }

    /// Reads an option about what is answered; `false` if it is none.
    fn read(&mut self, lines: &Lines<'_>, option: &OptionLine) -> Result<bool, CorefileError> {
        match option.name.text.as_str() {
            "endpoint_pod_names" => {
                lines.no_args(option)?;
                self.endpoint_pod_names = true;
            }
            "pods" => self.pods = pods(lines, option)?,
            "namespaces" => {
                let names = lines.some_args(option)?;
                self.namespaces.extend(names.iter().map(|name| name.text.as_str().into()));
            }
            "labels" => self.labels = selector(lines, option, "label")?,
            "namespace_labels" => {
                self.namespace_labels = selector(lines, option, "namespace_label")?;
            }
            "fallthrough" => self.fallthrough = lines.fallthrough(option),
            "ttl" => self.ttl = ttl(lines, option)?,
            "noendpoints" => {
                lines.no_args(option)?;
                self.endpoints = false;
            }
            "zonal" => {
                lines.no_args(option)?;
                self.zonal = true;
            }
            "ignore" => match option.args.first() {
                Some(word) if word.text == "empty_service" => self.ignore_empty_service = true,
                Some(word) => {
                    let words = format!("unable to parse ignore value: '{}'", word.text);
                    return Err(lines.err(word, words).suggesting(&word.text, &["empty_service"]));
                }
                None => {}
            },
            "multicluster" => {
                let zones = option.args.iter().flat_map(|zone| zones_of_text(&zone.text));
                self.multicluster = zones.collect();
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads an option about how the API server is asked; `false` if it is none.
    fn read_limits(
        &mut self,
        lines: &Lines<'_>,
        option: &OptionLine,
    ) -> Result<bool, CorefileError> {
        match option.name.text.as_str() {
            "startup_timeout" => {
                let [time, ..] = lines.some_args(option)? else { return Ok(true) };
                let fault = |why| {
                    let words = format!("failed to parse startup_timeout: {}, {why}", time.text);
                    lines.err(time, words)
                };
                self.startup_timeout = parse_duration(&time.text).map_err(fault)?;
            }
            "apiserver_qps" => {
                let word = lines.one_arg(option)?;
                self.limits.qps = match word.text.parse::<f32>() {
                    Ok(qps) if qps < 0.0 => {
                        return Err(lines.parse_err(word, "apiserver_qps must be >= 0"));
                    }
                    Ok(qps) if qps.is_finite() => qps,
                    _ => {
                        let why = no_number("ParseFloat", &word.text);
                        let words = format!("invalid apiserver_qps {:?}: {why}", word.text);
                        return Err(lines.parse_err(word, words));
                    }
                };
            }
            "apiserver_burst" => self.limits.burst = count(lines, option)?,
            "apiserver_max_inflight" => self.limits.inflight = count(lines, option)?,
            "corelane_state" => {
                self.state = Some(lines.path(&lines.one_arg(option)?.text));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The kinds that are watched.
    pub fn kinds(&self) -> Vec<Kind> {
        let of_set = !self.multicluster.is_empty();
        let wanted = |kind: &Kind| match kind {
            Kind::Namespaces | Kind::Services => true,
            Kind::Slices => self.endpoints,
            Kind::Pods => self.pods == Pods::Verified,
            Kind::Imports | Kind::ImportSlices => of_set,
        };
        Kind::ALL.into_iter().filter(wanted).collect()
    }

    /// What is held of the cluster; `metadata`: names and labels of pods are wanted.
    pub fn holding(&self, metadata: bool) -> Holding {
        Holding {
            kinds: self.kinds(),
            reading: Reading { pod_names: self.endpoint_pod_names, zonal: self.zonal },
            namespaces: self.namespaces.clone(),
            pod_infos: metadata && self.pods == Pods::Verified,
        }
    }

    /// What is watched, and where; `metadata` as for `holding`.
    pub fn watched(&self, connect: Connect, metadata: bool) -> crate::control::kube::Settings {
        crate::control::kube::Settings {
            connect,
            limits: self.limits,
            kinds: self.kinds(),
            selectors: Selectors {
                labels: self.labels.to_string(),
                namespace_labels: self.namespace_labels.to_string(),
            },
            held: format!("{:?}", self.holding(metadata)),
            startup_timeout: self.startup_timeout,
            times: Times::default(),
            state: self.state.clone(),
        }
    }
}

/// Whether a zone is below one of the two reverse zones, which themselves are not (as in CoreDNS).
fn is_below_reverse(zone: &NameBuf) -> bool {
    let text = zone.to_string();
    text.ends_with(".in-addr.arpa.") || text.ends_with(".ip6.arpa.")
}

fn pods(lines: &Lines<'_>, option: &OptionLine) -> Result<Pods, CorefileError> {
    let mode = lines.one_arg(option)?;
    match mode.text.as_str() {
        "disabled" => Ok(Pods::Disabled),
        "insecure" => Ok(Pods::Insecure),
        "verified" => Ok(Pods::Verified),
        other => {
            let known = ["disabled", "verified", "insecure"];
            let words = format!("wrong value for pods: {other},  must be one of: ");
            let words = words + &known.join(", ");
            Err(lines.err(mode, words).suggesting(other, &known))
        }
    }
}

fn selector(
    lines: &Lines<'_>,
    option: &OptionLine,
    which: &str,
) -> Result<Selector, CorefileError> {
    let words = lines.some_args(option)?;
    let text = words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    Selector::parse(&text).map_err(|why| {
        let words = format!("unable to parse {which} selector value: '{text}': {why}");
        lines.err(&option.args[0], words)
    })
}

fn ttl(lines: &Lines<'_>, option: &OptionLine) -> Result<u32, CorefileError> {
    let [word, ..] = lines.some_args(option)? else { return Ok(0) };
    let Ok(ttl) = word.text.parse::<i64>() else {
        return Err(lines.err(word, no_number("Atoi", &word.text)));
    };
    if !(0..=TTL_MAX).contains(&ttl) {
        return Err(lines.parse_err(word, format!("ttl must be in range [0, 3600]: {ttl}")));
    }
    Ok(ttl as u32)
}

/// A number of requests; 0 is no limit.
fn count(lines: &Lines<'_>, option: &OptionLine) -> Result<usize, CorefileError> {
    let (name, word) = (&option.name.text, lines.one_arg(option)?);
    match word.text.parse::<i64>() {
        Ok(number) if number < 0 => Err(lines.parse_err(word, format!("{name} must be >= 0"))),
        Ok(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX) as usize),
        Err(_) => {
            let why = no_number("Atoi", &word.text);
            Err(lines.parse_err(word, format!("invalid {name} {:?}: {why}", word.text)))
        }
    }
}

/// The last word of a line.
fn last(option: &OptionLine) -> &Token {
    option.args.last().unwrap_or(&option.name)
}

/// The options that say where the objects come from.
#[derive(Default)]
struct Source {
    endpoint: Option<Token>,
    tls: Option<Tls>,
    kubeconfig: Option<(Token, Option<String>)>,
    manifests: Option<(Vec<PathBuf>, Token)>,
}

impl Source {
    fn read(&mut self, lines: &Lines<'_>, option: &OptionLine) -> Result<bool, CorefileError> {
        match option.name.text.as_str() {
            "endpoint" => {
                let all = lines.some_args(option)?;
                if all.len() > 1 {
                    tracing::warn!(
                        target: "plugin/kubernetes",
                        "Multiple endpoints have been deprecated, \
                         only the first specified endpoint '{}' is used",
                        all[0].text
                    );
                }
                self.endpoint = all.first().cloned();
            }
            "tls" => {
                let [cert, key, ca] = &option.args[..] else {
                    return Err(lines.arg_err(last(option)));
                };
                let [cert, key, ca] = [cert, key, ca].map(|path| PathBuf::from(&path.text));
                self.tls = Some(Tls { cert, key, ca });
            }
            "kubeconfig" => {
                let (file, context) = match &option.args[..] {
                    [file] => (file, None),
                    [file, context] => (file, Some(context.text.clone())),
                    _ => return Err(lines.arg_err(last(option))),
                };
                self.kubeconfig = Some((file.clone(), context));
            }
            "manifests" => {
                let paths = lines.some_args(option)?.iter().map(|path| lines.path(&path.text));
                let (held, _) =
                    self.manifests.get_or_insert_with(|| (Vec::new(), option.name.clone()));
                held.extend(paths);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// One place: a kubeconfig wins over an end point, as in CoreDNS.
    fn settle(self, lines: &Lines<'_>) -> Result<Objects, CorefileError> {
        if let Some((paths, at)) = self.manifests {
            if self.endpoint.is_some() || self.kubeconfig.is_some() {
                let words = "manifests and an API server cannot both be set";
                return Err(lines.parse_err(&at, words));
            }
            return Ok(Objects::Manifests(paths, at.place));
        }
        Ok(Objects::Api(match (self.kubeconfig, self.endpoint) {
            (Some((file, context)), _) => Connect::Kubeconfig { file: file.text.into(), context },
            (None, Some(url)) => Connect::Endpoint { url: url.text, tls: self.tls },
            (None, None) => Connect::InCluster,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kubernetes;
    use super::*;
    use crate::plugin::parse_block;

    fn read(block: &str) -> Settings {
        parse_block::<Kubernetes>(block).expect("accepted").0
    }

    fn with(options: &str) -> Settings {
        read(&format!("kubernetes cluster.local {{\n{options}\n}}"))
    }

    #[test]
    fn defaults() {
        let settings = read("kubernetes");
        assert_eq!(settings.zones[0].to_string(), "example.org.");
        assert_eq!((settings.primary, settings.ttl, settings.pods), (0, 5, Pods::Disabled));
        assert!(settings.endpoints && !settings.zonal && !settings.ignore_empty_service);
        assert_eq!(settings.startup_timeout, Duration::from_secs(5));
        assert_eq!(settings.objects, Objects::Api(Connect::InCluster));
        assert_eq!(settings.kinds(), [Kind::Namespaces, Kind::Services, Kind::Slices]);
        assert!(!settings.fallthrough.is_on() && settings.state.is_none());
    }

    #[test]
    fn zones() {
        let settings = read("kubernetes 10.0.0.0/15 Cluster.Local in-addr.arpa");
        let zones: Vec<String> = settings.zones.iter().map(ToString::to_string).collect();
        let expected = ["0.10.in-addr.arpa.", "1.10.in-addr.arpa.", "cluster.local."];
        assert_eq!(zones[..3], expected);
        assert_eq!(settings.primary, 2);
        assert_eq!(read("kubernetes in-addr.arpa").primary, 0, "is not below itself");
    }

    #[test]
    fn what_is_watched() {
        let settings = with("noendpoints\n pods verified\n multicluster cluster.local");
        use Kind::{ImportSlices, Imports, Namespaces, Pods, Services};
        assert_eq!(settings.kinds(), [Namespaces, Services, Pods, Imports, ImportSlices]);
        let settings = with("labels a in (c, b)\n namespace_labels x==y\n endpoint_pod_names");
        let watched = settings.watched(Connect::InCluster, false);
        assert_eq!(watched.selectors.labels, "a in (b,c)");
        assert_eq!(watched.selectors.namespace_labels, "x=y");
        assert!(settings.holding(true).reading.pod_names && !settings.holding(true).pod_infos);
        assert!(with("pods verified").holding(true).pod_infos);
    }

    #[test]
    fn sources() {
        let both = with("endpoint https://a\n kubeconfig file ctx\n tls c k a");
        let file = Connect::Kubeconfig { file: "file".into(), context: Some("ctx".into()) };
        assert_eq!(both.objects, Objects::Api(file));
        let Objects::Api(Connect::Endpoint { url, tls }) = with("tls c k a\n endpoint u v").objects
        else {
            panic!("an end point")
        };
        assert_eq!((url.as_str(), tls.expect("given").ca.to_str()), ("u", Some("a")));
        let Objects::Manifests(paths, _) = with("manifests a b\n manifests c").objects else {
            panic!("manifests")
        };
        assert_eq!(paths, ["a", "b", "c"].map(PathBuf::from));
    }

    #[test]
    fn options() {
        let settings = with(
            "ttl 3600\n namespaces a b\n namespaces c\n fallthrough in-addr.arpa\n zonal\n \
             ignore empty_service\n ignore\n startup_timeout 0\n apiserver_qps 2.5\n \
             apiserver_burst 3\n apiserver_max_inflight 4\n corelane_state /var/lib/x",
        );
        assert_eq!((settings.ttl, settings.namespaces.len()), (3600, 3));
        assert!(settings.zonal && settings.ignore_empty_service && settings.fallthrough.is_on());
        assert_eq!(settings.startup_timeout, Duration::ZERO);
        assert_eq!(settings.limits, Limits { qps: 2.5, burst: 3, inflight: 4 });
        assert_eq!(settings.state, Some(PathBuf::from("/var/lib/x")));
    }

    #[test]
    fn faults_in_coredns_words() {
        for (option, words) in [
            ("pods", "Wrong argument count"),
            ("pods on", "wrong value for pods: on,  must be one of: disabled, verified, insecure"),
            ("endpoint_pod_names x", "Wrong argument count"),
            ("namespaces", "Wrong argument count"),
            ("endpoint", "Wrong argument count"),
            ("tls a b", "Wrong argument count or unexpected line ending after 'b'"),
            ("labels a!=b", "unable to parse label selector value: 'a!=b': \"!=\" is not a valid"),
            ("namespace_labels (", "unable to parse namespace_label selector value: '('"),
            ("ttl", "Wrong argument count"),
            ("ttl x", "strconv.Atoi: parsing \"x\": invalid syntax"),
            ("ttl 9223372036854775808", "parsing \"9223372036854775808\": value out of range"),
            ("ttl 3601", "ttl must be in range [0, 3600]: 3601"),
            ("ttl -1", "ttl must be in range [0, 3600]: -1"),
            ("noendpoints x", "Wrong argument count"),
            ("zonal\n noendpoints", "zonal requires the endpoint cache; remove noendpoints"),
            ("ignore full_service", "unable to parse ignore value: 'full_service'"),
            ("kubeconfig a b c", "Wrong argument count"),
            (
                "multicluster x.y",
                "is not authoritative for the multicluster zone x.y. \
              (authoritative zones: [cluster.local.])",
            ),
            ("startup_timeout 5", "failed to parse startup_timeout: 5, time: missing unit"),
            ("apiserver_qps x", "invalid apiserver_qps \"x\": strconv.ParseFloat: parsing \"x\""),
            ("apiserver_qps -1", "apiserver_qps must be >= 0"),
            ("apiserver_burst 1.5", "invalid apiserver_burst \"1.5\""),
            ("apiserver_max_inflight -1", "apiserver_max_inflight must be >= 0"),
            ("namespaces a\n namespace_labels b=c", "cannot both be set"),
            ("manifests a\n endpoint b", "manifests and an API server cannot both be set"),
            ("resyncperiod 5m", "unknown property 'resyncperiod'"),
        ] {
            let block = format!("kubernetes cluster.local {{\n {option}\n}}");
            let fault = parse_block::<Kubernetes>(&block).err().expect(option);
            assert!(fault.contains(words), "{option}: {fault}");
        }
        let fault = |block| parse_block::<Kubernetes>(block).err().expect("refused");
        assert!(fault("kubernetes 10.0.0.0/8").contains("non-reverse zone name must be used"));
        assert!(fault("kubernetes\nkubernetes").contains("can only be used once"));
    }
}
