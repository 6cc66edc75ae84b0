//! A real `kube-apiserver`, where `KUBE_APISERVER` says which program that is, on an `etcd` of its own
//! (`ETCD`, or the one on the path): over TLS, with RBAC, and with the service account and the role
//! of `deploy/kubernetes/base`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use corelane::control::kube::Connect;
use hyper::Request;
use kube::Client;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::certs::Authority;
use super::folder;
use super::ports::Port;

/// How long an API server may take to begin.
const BEGIN: Duration = Duration::from_secs(180);

/// A program that ends when this is dropped, or when this process ends in whatever way.
struct Program(Child);

impl Program {
    fn start(program: &Path, arguments: &[String], log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).expect("a file");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("an open file"))
            .stdout(log)
            .spawn();
        Self(child.expect("setpriv, of util-linux, starts it"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A control plane without controllers: what is written is there, and nothing else happens.
pub struct Cluster {
    pub folder: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
    port: Port,
    api: Option<Program>,
    store: (Port, Port),
    _etcd: Program,
    client: Option<Client>,
}

/// The program that a variable names; none, and a line that says so, if it names none.
pub fn program() -> Option<PathBuf> {
    let program = std::env::var_os("KUBE_APISERVER").filter(|path| !path.is_empty());
    if program.is_none() {
        let line = "skipped: kube_api: a real API server: KUBE_APISERVER names none\n";
        static TOLD: Once = Once::new();
        // Not through the macros, whose lines are kept back where a test passes.
        TOLD.call_once(|| drop(std::io::stderr().write_all(line.as_bytes())));
    }
    program.map(PathBuf::from)
}

impl Cluster {
    /// Starts, with more arguments than it needs; it serves when this returns.
    pub async fn start(program: PathBuf, name: &str, more: &[&str]) -> Self {
        let folder = folder(name);
        let write = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).expect("a file");
            folder.join(name).display().to_string()
        };
        let authority = Authority::new();
        let own = authority.identity(&["127.0.0.1", "kubernetes.default.svc"], 2120);
        let accounts = authority.identity(&[], 2120);
        write("ca.crt", &authority.pem);
        write("other.crt", &Authority::new().pem);
        write("admin", "of-the-admin");
        let [port, client, peer] = [Port::free(), Port::free(), Port::free()];
        let url = |port: &Port| format!("http://127.0.0.1:{}", port.number);
        let mut arguments = vec![
            format!("--etcd-servers={}", url(&client)),
            format!("--secure-port={}", port.number),
            format!("--tls-cert-file={}", write("server.crt", &own.certificate)),
            format!("--tls-private-key-file={}", write("server.key", &own.key)),
            format!("--token-auth-file={}", write("tokens", "of-the-admin,admin,1,system:masters")),
            format!("--service-account-key-file={}", write("accounts.crt", &accounts.certificate)),
            format!("--service-account-signing-key-file={}", write("accounts.key", &accounts.key)),
        ];
        let fixed = [
            "--bind-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",
            // No controller makes the accounts that pods would have.
            "--disable-admission-plugins=ServiceAccount",
        ];
        arguments.extend(fixed.iter().chain(more).map(|one| (*one).to_owned()));
        let data = folder.join("etcd").display().to_string();
        let etcd = [
            format!("--data-dir={data}"),
            format!("--listen-client-urls={}", url(&client)),
            format!("--advertise-client-urls={}", url(&client)),
            format!("--listen-peer-urls={}", url(&peer)),
            format!("--initial-advertise-peer-urls={}", url(&peer)),
            format!("--initial-cluster=default={}", url(&peer)),
        ];
        let store = std::env::var_os("ETCD").unwrap_or_else(|| OsString::from("etcd"));
        let etcd = Program::start(Path::new(&store), &etcd, &folder.join("etcd.log"));
        let (api, store) = (None, (client, peer));
        let mut cluster =
            Self { folder, program, arguments, port, api, store, _etcd: etcd, client: None };
        let connect = Connect::Kubeconfig { file: cluster.kubeconfig("admin"), context: None };
        let config = connect.config().expect("a kubeconfig");
        cluster.client = Some(Client::try_from(config).expect("a client"));
        cluster.resume().await;
        cluster
    }

    /// Where the API server listens.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port.number)
    }

    /// Kills the API server.
    pub fn stop(&mut self) {
        self.api = None;
    }

    /// Starts the API server again, and waits until it serves.
    pub async fn resume(&mut self) {
        let log = self.folder.join("kube-apiserver.log");
        let mut program = Program::start(&self.program, &self.arguments, &log);
        let began = Instant::now();
        loop {
            let request = Request::get("/readyz").body(Vec::new()).expect("a request");
            let asked = timeout(BEGIN, self.client().request_text(request)).await;
            if asked.is_ok_and(|answer| answer.is_ok()) {
                self.api = Some(program);
                return;
            }
            if began.elapsed() > BEGIN || program.0.try_wait().is_ok_and(|end| end.is_some()) {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                let last = log.lines().rev().take(20).collect::<Vec<_>>();
                panic!("the API server does not begin:\n{}", last.join("\n"));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("made with the cluster")
    }

    /// A kubeconfig that has the token in the file `who`.
    pub fn kubeconfig(&self, who: &str) -> PathBuf {
        self.kubeconfig_of(who, "127.0.0.1", "ca.crt")
    }

    /// A kubeconfig that reaches the server by this host and trusts an authority.
    pub fn kubeconfig_of(&self, who: &str, host: &str, ca: &str) -> PathBuf {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'https://{host}:{}', \
             certificate-authority: {ca}}}}}]\n\
             users: [{{name: u, user: {{tokenFile: {}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
            self.port.number,
            self.folder.join(who).display()
        );
        let file = self.folder.join(format!("kubeconfig-{who}-{host}-{ca}"));
        std::fs::write(&file, text).expect("a file");
        file
    }

    /// Has the API server do something; gives what it says.
    async fn ask(&self, method: &str, path: &str, body: &Value) -> kube::Result<Value> {
        let form =
            if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let text = if body.is_null() { Vec::new() } else { body.to_string().into() };
        let request = Request::builder().method(method).uri(path).header("content-type", form);
        self.client().request(request.body(text).expect("a request")).await
    }

    /// Has the API server do what it must do.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let asked = self.ask(method, path, body).await;
        asked.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Defines the imports of services (KEP-1645), whatever they hold.
    pub async fn define_imports(&self) {
        let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let version = json!({"name": "v1alpha1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": any}});
        let group = "multicluster.x-k8s.io";
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("serviceimports.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "versions": [version],
                "names": {"plural": "serviceimports", "kind": "ServiceImport"}}});
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        self.call("POST", definitions, &definition).await;
        // It is served a little later.
        let began = Instant::now();
        while self.ask("GET", &path("serviceimports", "", ""), &Value::Null).await.is_err() {
            assert!(began.elapsed() < BEGIN, "the definition is never served");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Writes a new object.
    pub async fn create(&self, plural: &str, object: Value) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        self.call("POST", &path(plural, namespace, ""), &object).await;
    }

    /// Changes parts of an object.
    pub async fn change(&self, plural: &str, namespace: &str, name: &str, patch: Value) {
        self.call("PATCH", &path(plural, namespace, name), &patch).await;
    }

    pub async fn delete(&self, plural: &str, namespace: &str, name: &str) {
        self.call("DELETE", &path(plural, namespace, name), &Value::Null).await;
    }

    /// Deletes a namespace as its controller would.
    pub async fn delete_namespace(&self, name: &str) {
        self.delete("namespaces", "", name).await;
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
            "spec": {"finalizers": []}});
        self.call("PUT", &format!("/api/v1/namespaces/{name}/finalize"), &object).await;
    }

    /// Writes the service account and its role as they lie in `deploy`.
    pub async fn permit(&self) {
        for file in ["serviceaccount.yaml", "rbac.yaml"] {
            self.apply(&format!("kubernetes/base/{file}")).await;
        }
    }

    /// Writes the objects of a file below `deploy`.
    pub async fn apply(&self, file: &str) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
        let text = std::fs::read_to_string(file).expect("a manifest");
        for document in text.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document).expect("YAML");
            let kind = object["kind"].as_str().expect("a kind");
            self.create(&format!("{}s", kind.to_lowercase()), object.clone()).await;
        }
    }

    /// Writes a fresh token of the service account into the file `who`.
    pub async fn token(&self, who: &str) {
        self.token_of(who, "kube-system", "coredns").await;
    }

    /// Writes a fresh token of any service account into the file `who`.
    pub async fn token_of(&self, who: &str, namespace: &str, account: &str) {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600}});
        let account = path("serviceaccounts", namespace, account);
        let made = self.call("POST", &format!("{account}/token"), &body).await;
        let token = made["status"]["token"].as_str().expect("a token");
        std::fs::write(self.folder.join(who), token).expect("a file");
    }

    /// Deletes an object behind the API server's back, and the history of it.
    pub fn lose(&self, key: &str) {
        let key = BASE64_STANDARD.encode(format!("/registry/{key}"));
        let deleted = self.store("/v3/kv/deleterange", &json!({"key": key}));
        assert_eq!(deleted["deleted"], "1", "{deleted}");
        let now = json!({"revision": deleted["header"]["revision"], "physical": true});
        self.store("/v3/kv/compaction", &now);
    }

    /// Whether etcd tells how far it is when it is asked, without which there are no streaming lists.
    pub fn streams(&self) -> bool {
        let version = self.store("/version", &Value::Null);
        let version = version["etcdserver"].as_str().expect("a version").to_owned();
        version.split('.').map(|part| part.parse().unwrap_or(0)).ge([3_u32, 5])
    }

    /// Asks etcd, by its gateway for JSON.
    fn store(&self, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.store.0.number)).expect("etcd");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        let method = if body.is_null() { "GET" } else { "POST" };
        let body = body.to_string();
        let head = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"))
    }
}

/// The path of an object, or of all of a namespace, or of all that have none.
fn path(plural: &str, namespace: &str, name: &str) -> String {
    let group = match plural {
        "endpointslices" => "/apis/discovery.k8s.io/v1",
        "clusterroles" | "clusterrolebindings" => "/apis/rbac.authorization.k8s.io/v1",
        "jobs" => "/apis/batch/v1",
        "serviceimports" => "/apis/multicluster.x-k8s.io/v1alpha1",
        _ => "/api/v1",
    };
    let within = match namespace {
        "" => String::new(),
        namespace => format!("/namespaces/{namespace}"),
    };
    let path = format!("{group}{within}/{plural}");
    if name.is_empty() { path } else { format!("{path}/{name}") }
}
