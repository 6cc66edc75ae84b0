//! What the API server tells of the cluster's DNS.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::super::args::Doctor;
use super::super::kube::{Connect, Once, Trouble};
use super::super::resolver::{self, Origin};
use super::{Cause, Chart};
use crate::cluster::top_level::is_top_level;

/// The cluster that is looked at.
pub(super) struct Patient {
    api: Once,
    /// Namespace of the DNS pods.
    pub(super) namespace: String,
    /// Name of their Service.
    name: String,
    pub(super) map: String,
    /// Namespace and name of the pod that cannot resolve.
    pod: Option<(String, String)>,
    /// The cluster's zone.
    pub(super) zone: String,
    /// Whether the zone was said, not guessed.
    is_zone_given: bool,
    /// Addresses of the Service.
    pub(super) addresses: Vec<String>,
    /// What pods get.
    pub(super) given: Vec<String>,
    selector: Vec<(String, String)>,
    /// The service account of the DNS pods.
    account: Option<String>,
    /// One of the DNS pods.
    pub(super) own: Option<Value>,
    node_file: Option<std::path::PathBuf>,
    /// The servers that it names.
    pub(super) node_servers: Vec<IpAddr>,
    /// The kubelet's resolvConf.
    kubelet_file: String,
}

pub(super) fn word<'v>(value: &'v Value, path: &str) -> &'v str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn all<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn words(value: &Value, path: &str) -> Vec<String> {
    all(value, path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What a trouble with the API server comes from, and what to do.
pub(super) fn of_trouble(trouble: &Trouble) -> Cause {
    let remedy = match trouble {
        Trouble::Config(_) => "name a kubeconfig with --kubeconfig, or run it in a pod",
        Trouble::UnknownAuthority => {
            "give it the authority that has signed the API server's certificate: \
             certificate-authority of the kubeconfig, or ca.crt of the service account"
        }
        Trouble::Expired(_) => {
            "renew the certificate (kubeadm certs renew apiserver), or set the clock"
        }
        Trouble::WrongName(_) => {
            "have the missing name or address added to the certificate (apiServer.certSANs of \
             kubeadm, --tls-san of k3s), or ask by one of those that it is valid for"
        }
        Trouble::Tls(_) => "see that the URL is that of the API server, and begins with https",
        Trouble::Refused => "see that the API server runs, and listens at the address of the URL",
        Trouble::TimedOut | Trouble::Broken(_) => {
            "see that the API server can be reached from here: routes, firewalls, its load balancer"
        }
        Trouble::Unauthorized => {
            "renew the credentials (kubectl config view --minify); restart a pod, so that it \
             gets a new token"
        }
        Trouble::Forbidden(_) => "have whoever asks granted what it lacks",
        _ => "see the API server's log",
    };
    Cause::new(trouble.to_string(), remedy)
}

impl Patient {
    /// Asks for the version: certificate, token and way are then known to be good.
    pub(super) async fn reach(
        connect: &Connect,
        wanted: &Doctor,
        chart: &mut Chart,
    ) -> Result<Self, Cause> {
        let api = Once::new(connect).map_err(|trouble| of_trouble(&trouble))?;
        let version = api.get("/version").await.map_err(|trouble| of_trouble(&trouble))?;
        chart.ok(format!("answers, version {}", word(&version, "/gitVersion")));
        let pod = wanted.pod.as_deref().map(|pod| {
            let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
            (namespace.to_owned(), name.to_owned())
        });
        Ok(Self {
            api,
            namespace: wanted.namespace.clone(),
            name: wanted.service.clone(),
            map: wanted.config_map.clone(),
            pod,
            zone: wanted.zone.clone().unwrap_or_else(|| "cluster.local".into()),
            is_zone_given: wanted.zone.is_some(),
            addresses: Vec::new(),
            given: Vec::new(),
            selector: Vec::new(),
            account: None,
            own: None,
            node_file: wanted.resolv_conf.clone(),
            node_servers: Vec::new(),
            kubelet_file: String::new(),
        })
    }

    /// What is at a path; nothing if it may not be seen, which is noted.
    pub(super) async fn look(
        &self,
        path: &str,
        chart: &mut Chart,
    ) -> Result<Option<Value>, Trouble> {
        match self.api.get(path).await {
            Ok(value) => Ok(Some(value)),
            Err(Trouble::Forbidden(why)) => {
                chart.note(format!("not looked at: {why}"));
                Ok(None)
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// The pod that cannot resolve.
    pub(super) async fn pod(&self, chart: &mut Chart) -> Result<Option<Value>, Cause> {
        let Some((namespace, name)) = &self.pod else { return Ok(None) };
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let pod = self.look(&path, chart).await.map_err(|trouble| match trouble {
            Trouble::Missing(_) => Cause::new(
                format!("there is no pod {name} in namespace {namespace}"),
                format!("name one: kubectl -n {namespace} get pods"),
            ),
            other => of_trouble(&other),
        })?;
        if let Some(pod) = &pod {
            let phase = word(pod, "/status/phase");
            match word(pod, "/spec/nodeName") {
                // It asks nobody yet.
                "" => chart.note(format!("{namespace}/{name} is {phase}, on no node")),
                node => chart.ok(format!("{namespace}/{name} is {phase} on {node}")),
            }
        }
        Ok(pod)
    }

    /// The Service, its addresses and ports.
    pub(super) async fn service(&mut self, chart: &mut Chart) -> Result<(), Cause> {
        let (namespace, name) = (&self.namespace, &self.name);
        let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
        let service = self.look(&path, chart).await.map_err(|trouble| match trouble {
            Trouble::Missing(_) => Cause::new(
                format!("there is no Service {name} in namespace {namespace}"),
                "apply deploy/kubernetes, or name it with --namespace and --service",
            ),
            other => of_trouble(&other),
        })?;
        let Some(service) = service else { return Ok(()) };
        let mut addresses = words(&service, "/spec/clusterIPs");
        if addresses.is_empty() {
            addresses.push(word(&service, "/spec/clusterIP").to_owned());
        }
        addresses.retain(|address| address.parse::<IpAddr>().is_ok());
        if addresses.is_empty() {
            return Err(Cause::new(
                format!("the Service {name} has no cluster IP"),
                "make it anew with the clusterIP that the kubelets have as clusterDNS",
            ));
        }
        for protocol in ["UDP", "TCP"] {
            let has = all(&service, "/spec/ports").iter().any(|port| {
                let spoken = port["protocol"].as_str().unwrap_or("TCP");
                port["port"] == 53 && spoken == protocol
            });
            if !has {
                return Err(Cause::new(
                    format!("the Service {name} has no port 53 by {protocol}"),
                    format!("add it: {{port: 53, protocol: {protocol}}}"),
                ));
            }
        }
        let selector = service.pointer("/spec/selector").and_then(Value::as_object);
        let pairs = selector.into_iter().flatten();
        self.selector = pairs
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        chart.ok(format!("{name} has {}, port 53 by UDP and TCP", addresses.join(" ")));
        self.given.clone_from(&addresses);
        self.addresses = addresses;
        Ok(())
    }

    /// What the kubelet of the pod's node, or of any, tells pods of the DNS.
    pub(super) async fn kubelet(
        &mut self,
        pod: Option<&Value>,
        chart: &mut Chart,
    ) -> Result<(), Cause> {
        let mut node = pod.map_or("", |pod| word(pod, "/spec/nodeName")).to_owned();
        if node.is_empty() {
            let nodes = self.look("/api/v1/nodes?limit=1", chart).await;
            let nodes = nodes.map_err(|trouble| of_trouble(&trouble))?;
            node =
                nodes.map_or(String::new(), |nodes| word(&nodes, "/items/0/metadata/name").into());
        }
        if node.is_empty() {
            return Ok(());
        }
        let path = format!("/api/v1/nodes/{node}/proxy/configz");
        let config = match self.look(&path, chart).await {
            Ok(Some(config)) => config,
            Ok(None) => return Ok(()),
            Err(trouble) => {
                chart.note(format!("{node} does not tell its configuration: {trouble}"));
                return Ok(());
            }
        };
        let given = words(&config, "/kubeletconfig/clusterDNS");
        let domain = word(&config, "/kubeletconfig/clusterDomain").trim_end_matches('.');
        let is_local = |address: &String| {
            address.parse().is_ok_and(|ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.is_link_local(),
                IpAddr::V6(ip) => ip.is_unicast_link_local(),
            })
        };
        let known = |address: &String| self.addresses.contains(address) || is_local(address);
        if !self.addresses.is_empty() && !given.iter().any(known) {
            return Err(Cause::new(
                format!(
                    "{node} gives its pods clusterDNS {}, and the Service has {}",
                    if given.is_empty() { "none".into() } else { given.join(" ") },
                    self.addresses.join(" ")
                ),
                "let them agree: clusterDNS in the kubelet's configuration, and restart it; pods \
                 get it when they are made",
            ));
        }
        if !domain.is_empty() && !self.is_zone_given {
            domain.clone_into(&mut self.zone);
        }
        chart.ok(format!("{node} gives pods {} and {domain}", given.join(" ")));
        self.given = given;
        word(&config, "/kubeletconfig/resolvConf").clone_into(&mut self.kubelet_file);
        Ok(())
    }

    /// Whether what the node asks leads back to the cluster's DNS.
    pub(super) fn node_loop(&mut self, chart: &mut Chart) -> Result<(), Cause> {
        let Some(file) = &self.node_file else { return Ok(()) };
        let text = std::fs::read_to_string(file).map_err(|error| {
            Cause::new(format!("{}: {error}", file.display()), "name a file that can be read")
        })?;
        let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
        for server in servers.map(str::trim) {
            let is_own = server.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
                || self.addresses.iter().any(|address| address == server);
            if is_own {
                let named = match &*self.kubelet_file {
                    "" => "unset",
                    named => named,
                };
                return Err(Cause::new(
                    format!(
                        "{} names {server}: DNS pods that forward to /etc/resolv.conf ask \
                         themselves, a loop",
                        file.display()
                    ),
                    format!(
                        "let the kubelet's resolvConf (it is {named}) be a file that names the \
                         real servers, such as /run/systemd/resolve/resolv.conf"
                    ),
                ));
            }
            self.node_servers.extend(server.parse::<IpAddr>());
        }
        chart.ok(format!("{} leads to no loop", file.display()));
        Ok(())
    }

    /// What the pod asks, and whom.
    pub(super) fn resolv_conf(&self, pod: &Value, chart: &mut Chart) -> Result<(), Cause> {
        let origin = resolver::of_pod(pod, &self.given, &self.zone);
        let resolver = origin.resolver();
        if let Origin::Node(_, why) = &origin
            && !resolver.servers.iter().any(|server| self.given.contains(server))
        {
            return Err(Cause::new(
                format!("the pod has the node's resolv.conf, which knows no cluster names: {why}"),
                "set dnsPolicy: ClusterFirst, with hostNetwork ClusterFirstWithHostNet, and make \
                 the pod anew",
            ));
        }
        if let Origin::Own(own) = &origin
            && !own.servers.iter().any(|server| self.given.contains(server))
        {
            return Err(Cause::new(
                format!(
                    "dnsPolicy None: the pod asks {}, not the cluster's DNS",
                    if own.servers.is_empty() { "nobody".into() } else { own.servers.join(" ") }
                ),
                format!("add {} to dnsConfig.nameservers", self.given.join(" ")),
            ));
        }
        let own = format!("svc.{}", self.zone);
        if !resolver.search.contains(&own) {
            chart.note(format!("{own} is not in its search path: names of services must be whole"));
        }
        if resolver.ndots < 2 {
            chart.note(format!(
                "ndots is {}: SERVICE.NAMESPACE is tried as it is first, and by musl only so",
                resolver.ndots
            ));
        }
        chart.ok(format!(
            "nameserver {}, search {}, ndots {}",
            resolver.servers.join(" "),
            resolver.search.join(" "),
            resolver.ndots
        ));
        Ok(())
    }

    /// The endpoints that are ready; if there are none, why.
    pub(super) async fn endpoints(&mut self, chart: &mut Chart) -> Result<Vec<SocketAddr>, Cause> {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices\
             ?labelSelector=kubernetes.io%2Fservice-name%3D{name}"
        );
        let slices = self.look(&path, chart).await.map_err(|trouble| of_trouble(&trouble))?;
        let mut ready = Vec::new();
        let mut unready = Vec::new();
        for slice in slices.iter().flat_map(|slices| all(slices, "/items")) {
            let ports = all(slice, "/ports").iter();
            let named = ports.clone().find(|port| word(port, "/name") == "dns");
            let port = named.or_else(|| ports.clone().find(|port| port["protocol"] == "UDP"));
            let port = port.and_then(|port| port["port"].as_u64()).unwrap_or(53) as u16;
            for endpoint in all(slice, "/endpoints") {
                let is_ready = endpoint.pointer("/conditions/ready") != Some(&Value::Bool(false));
                let addresses = words(endpoint, "/addresses").into_iter();
                let addresses = addresses.filter_map(|text| text.parse::<IpAddr>().ok());
                let addresses = addresses.map(|ip| SocketAddr::new(ip, port));
                if is_ready { ready.extend(addresses) } else { unready.extend(addresses) }
            }
        }
        self.pods(ready.is_empty() && slices.is_some(), chart).await?;
        if ready.is_empty() && slices.is_some() {
            return Err(Cause::new(
                format!("the Service {name} has no endpoint that is ready"),
                "see whether its selector and the labels of the pods agree, and the pods' /ready",
            ));
        }
        let list =
            |all: &[SocketAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        if !unready.is_empty() {
            chart.note(format!("not ready: {}", list(&unready)));
        }
        chart.ok(format!("ready: {}", list(&ready)));
        Ok(ready)
    }

    /// The DNS pods: why none is ready.
    async fn pods(&mut self, is_ill: bool, chart: &mut Chart) -> Result<(), Cause> {
        if self.selector.is_empty() {
            return Ok(());
        }
        let pairs: Vec<String> =
            self.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let labels = pairs.join(",");
        let namespace = &self.namespace;
        let encoded = labels.replace('=', "%3D").replace(',', "%2C").replace('/', "%2F");
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={encoded}");
        let pods = self.look(&path, chart).await.map_err(|trouble| of_trouble(&trouble))?;
        let Some(pods) = pods else { return Ok(()) };
        let pods = all(&pods, "/items");
        let account = pods.first().map(|pod| word(pod, "/spec/serviceAccountName").to_owned());
        self.account = account.filter(|account| !account.is_empty());
        self.own = pods.first().cloned();
        if pods.is_empty() && is_ill {
            return Err(Cause::new(
                format!("no pod in {namespace} has the labels {labels} that the Service selects"),
                format!("see the Deployment: kubectl -n {namespace} get deployments,daemonsets"),
            ));
        }
        for pod in pods.iter().filter(|_| is_ill) {
            self.ill(pod).await?;
        }
        Ok(())
    }

    /// What is wrong with a pod that is not ready.
    async fn ill(&self, pod: &Value) -> Result<(), Cause> {
        let (namespace, name) = (&self.namespace, word(pod, "/metadata/name"));
        let logs = format!("kubectl -n {namespace} logs {name} --previous");
        for status in all(pod, "/status/containerStatuses") {
            let last = word(status, "/lastState/terminated/reason");
            if last == "OOMKilled" {
                return Err(Cause::new(
                    format!("{name} was killed for want of memory"),
                    "raise its memory limit",
                ));
            }
            let waits = word(status, "/state/waiting/reason");
            match waits {
                "" => {}
                "CrashLoopBackOff" => return Err(self.crashed(name, &logs).await),
                reason => {
                    let message = word(status, "/state/waiting/message");
                    return Err(Cause::new(
                        format!("{name} does not start: {reason} {message}"),
                        format!("kubectl -n {namespace} describe pod {name}"),
                    ));
                }
            }
        }
        let conditions = all(pod, "/status/conditions");
        let scheduled = conditions.iter().find(|one| one["type"] == "PodScheduled");
        if let Some(one) = scheduled.filter(|one| one["status"] == "False") {
            return Err(Cause::new(
                format!("{name} is on no node: {}", word(one, "/message")),
                "make room, or change its affinity and tolerations",
            ));
        }
        Ok(())
    }

    /// Why a pod ends again and again: the last words of its log.
    async fn crashed(&self, name: &str, logs: &str) -> Cause {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{name}/log?previous=true&tailLines=20",
            self.namespace
        );
        let text = self.api.text(&path).await.unwrap_or_default();
        let words = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let words: String = words.chars().filter(|c| !c.is_control()).take(300).collect();
        if text.contains("Loop (") {
            return Cause::new(
                format!("{name} ends since its questions come back to it: {words}"),
                "its upstream leads back to it: let `forward` name real servers, or the kubelet's \
                 resolvConf be a file that does",
            );
        }
        Cause::new(format!("{name} ends again and again: {words}"), logs)
    }

    /// Notes namespaces whose services take names of the Internet.
    pub(super) async fn namespaces(&self, chart: &mut Chart) -> Result<(), Cause> {
        let all_of_them = self.look("/api/v1/namespaces", chart).await;
        let namespaces = all_of_them.map_err(|trouble| of_trouble(&trouble))?;
        let items = namespaces.iter().flat_map(|list| all(list, "/items"));
        let names = items.map(|item| word(item, "/metadata/name"));
        for name in names.filter(|name| is_top_level(name)) {
            chart.note(format!(
                "namespace {name} is a top-level domain, too: whoever makes a service EXAMPLE in \
                 it gets what pods ask of EXAMPLE.{name}"
            ));
        }
        Ok(())
    }

    /// Whether the DNS pods may list and watch what they need.
    pub(super) async fn access(&self, chart: &mut Chart) -> Result<(), Cause> {
        let user = self
            .account
            .as_ref()
            .map(|account| format!("system:serviceaccount:{}:{account}", self.namespace));
        let mut asked = 0;
        for (group, resource) in
            [("", "services"), ("", "namespaces"), ("discovery.k8s.io", "endpointslices")]
        {
            for verb in ["list", "watch"] {
                let attributes = json!({"group": group, "resource": resource, "verb": verb});
                let Some(allowed) = self.may(user.as_deref(), &attributes).await? else {
                    chart.note("not looked at: access reviews are not allowed");
                    return Ok(());
                };
                if !allowed {
                    let who = user.as_deref().unwrap_or("the service account");
                    let whole = if group.is_empty() { "" } else { "." };
                    return Err(Cause::new(
                        format!("{who} may not {verb} {resource}{whole}{group}"),
                        "apply the ClusterRole and the binding system:coredns of deploy/kubernetes",
                    ));
                }
                asked += 1;
            }
        }
        chart.ok(format!("all {asked} verbs are granted"));
        Ok(())
    }

    /// Whether somebody, or whoever asks, may do something; nothing if that may not be asked.
    async fn may(&self, user: Option<&str>, attributes: &Value) -> Result<Option<bool>, Cause> {
        let own = ("selfsubjectaccessreviews", json!({"resourceAttributes": attributes}));
        let (resource, spec) = match user {
            Some(user) => (
                "subjectaccessreviews",
                json!({"resourceAttributes": attributes, "user": user,
                    "groups": ["system:serviceaccounts", "system:authenticated"]}),
            ),
            None => own,
        };
        let review = json!({"apiVersion": "authorization.k8s.io/v1",
            "kind": if user.is_some() { "SubjectAccessReview" } else { "SelfSubjectAccessReview" },
            "spec": spec});
        let path = format!("/apis/authorization.k8s.io/v1/{resource}");
        match self.api.post(&path, &review).await {
            Ok(review) => Ok(review.pointer("/status/allowed").and_then(Value::as_bool)),
            Err(Trouble::Forbidden(_) | Trouble::Missing(_)) => Ok(None),
            Err(trouble) => Err(of_trouble(&trouble)),
        }
    }
}
