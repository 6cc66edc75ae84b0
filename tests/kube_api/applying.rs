//! What lies in `deploy/`, applied to a real API server with the programs that operators use.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::cluster::{Cluster, program};
use super::run;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether a program is on the path; a line says so if it is not.
fn here(name: &str) -> bool {
    let mut asked = Command::new(name);
    let is_here = asked.arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !is_here {
        let line = format!("skipped: kube_api: what needs {name}, which is not here\n");
        drop(std::io::stderr().write_all(line.as_bytes()));
    }
    is_here
}

/// Runs a program on this input; gives what it prints.
fn output(command: &mut Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("taken");
    drop(stdin);
    let done = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}\n{input}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// `kubectl` as the administrator of a cluster.
struct Kubectl(PathBuf);

impl Kubectl {
    fn run(&self, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new("kubectl");
        output(command.arg("--kubeconfig").arg(&self.0).args(arguments), input)
    }

    /// Applies, first as a trial, then for good, then once more, which changes nothing.
    fn apply(&self, objects: &str, namespace: &str) {
        let apply = ["apply", "--server-side", "-n", namespace, "-f", "-"];
        self.run(&[&apply[..], &["--dry-run=server"]].concat(), objects);
        self.run(&apply, objects);
        let version = ["get", "-f", "-", "-n", namespace, "-o"];
        let version = [&version[..], &["jsonpath={..metadata.resourceVersion}"]].concat();
        let before = self.run(&version, objects);
        self.run(&apply, objects);
        assert_eq!(self.run(&version, objects), before, "{objects}");
    }

    fn cluster_ip(&self) -> String {
        let service = ["-n", "kube-system", "get", "service", "kube-dns"];
        self.run(&[&service[..], &["-o", "jsonpath={.spec.clusterIP}"]].concat(), "")
    }
}

#[test]
fn manifests_chart_and_scripts_are_taken() {
    let Some(program) = program() else { return };
    if !here("kubectl") {
        return;
    }
    run(async {
        let cluster = Cluster::start(program, "applied", &[]).await;
        let config = cluster.kubeconfig("admin");
        let kubectl = Kubectl(config.clone());
        script(&config, &kubectl);
        overlays(&cluster.folder, &kubectl);
        if here("helm") {
            // Values may want its address.
            kubectl.run(&["-n", "kube-system", "delete", "service", "kube-dns"], "");
            chart(&kubectl);
        }
        for (verb, resource, may) in [
            ("list", "endpointslices.discovery.k8s.io", true),
            ("watch", "services", true),
            ("watch", "namespaces", true),
            ("list", "pods", true),
            ("get", "secrets", false),
            ("update", "services", false),
        ] {
            let account = "--as=system:serviceaccount:kube-system:coredns";
            let asked = ["auth", "can-i", verb, resource, account, "-A", "-q"];
            let asked =
                Command::new("kubectl").arg("--kubeconfig").arg(&config).args(asked).status();
            assert_eq!(asked.expect("kubectl").success(), may, "{verb} {resource}");
        }
    });
}

/// `deploy.sh` on a cluster without DNS, and on the one that it has made.
fn script(config: &Path, kubectl: &Kubectl) {
    let deploy = |arguments: &[&str]| {
        let mut command = Command::new(root().join("deploy/deploy.sh"));
        output(command.arg("-k").arg(config).args(arguments), "")
    };
    deploy(&["-i", "10.96.0.10", "-a"]);
    assert_eq!(kubectl.cluster_ip(), "10.96.0.10");
    let again = deploy(&[]);
    assert!(
        again.contains("clusterIP: 10.96.0.10") && !again.contains("kind: ConfigMap"),
        "{again}"
    );
    deploy(&["-a"]);
    deploy(&["-f", "-a"]);
}

/// Each overlay over what is there: the address of the service stays.
fn overlays(folder: &Path, kubectl: &Kubectl) {
    let overlays = root().join("deploy/kubernetes");
    let render = |path: &Path| output(Command::new("kubectl").arg("kustomize").arg(path), "");
    let scaled = ["autoscaler", "autoscaler-saturation", "autoscaler-proportional"];
    for overlay in ["corefile", "deployment", "daemonset"].into_iter().chain(scaled) {
        kubectl.apply(&render(&overlays.join(overlay)), "kube-system");
        assert_eq!(kubectl.cluster_ip(), "10.96.0.10", "{overlay}");
    }
    let on_each_node =
        output(Command::new(overlays.join("node-local/render")).arg("10.96.0.10"), "");
    kubectl.apply(&on_each_node, "kube-system");
    let with_policy = folder.join("with-policy");
    std::fs::create_dir_all(&with_policy).expect("a folder");
    // From there to the root of the file system: kustomize takes relative paths only.
    let up: String = with_policy.components().skip(1).map(|_| "../").collect();
    let overlays = format!("{up}{}", overlays.display().to_string().trim_start_matches('/'));
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
         resources: [{overlays}/deployment]\ncomponents: [{overlays}/components/metrics-policy]\n"
    );
    std::fs::write(with_policy.join("kustomization.yaml"), text).expect("a file");
    kubectl.apply(&render(&with_policy), "kube-system");
}

/// The chart with each of the values that are tested.
fn chart(kubectl: &Kubectl) {
    let values = root().join("tests/deploy/values");
    let files =
        std::fs::read_dir(values).expect("a folder").map(|file| file.expect("a file").path());
    let version = kubectl.run(&["version", "-o", "json"], "");
    let version: serde_json::Value = serde_json::from_str(&version).expect("JSON");
    let version = version["serverVersion"]["gitVersion"].as_str().expect("a version").to_owned();
    for (number, values) in [None].into_iter().chain(files.map(Some)).enumerate() {
        let namespace = format!("dns-{number}");
        kubectl.run(&["create", "namespace", &namespace], "");
        let mut helm = Command::new("helm");
        helm.args(["template", "coredns"]).arg(root().join("deploy/helm/corelane"));
        helm.args(["-n", &namespace, "--kube-version", &version]);
        if let Some(values) = &values {
            helm.arg("-f").arg(values);
        }
        let rendered = output(&mut helm, "");
        // Custom resources, whose definitions the cluster does not have.
        let objects =
            rendered.split("\n---\n").filter(|one| !one.contains("monitoring.coreos.com/"));
        kubectl.apply(&objects.collect::<Vec<_>>().join("\n---\n"), &namespace);
        kubectl.run(&["-n", &namespace, "delete", "services", "--all"], "");
    }
}
