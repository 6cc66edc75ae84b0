"""Checks what lies in deploy/: manifests, chart, scripts, rules, dashboards, units.

Everything is rendered with the programs that operators use, and validated by the API's schemas. A
program that is not here is named in a line `skipped: …`. Exit status 1 and a line for each fault.

    python tests/deploy/check.py PATH-OF-CORELANE
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CORELANE = pathlib.Path(sys.argv[1]).resolve()
faults = []


def fault(text):
    faults.append(text)


def here(program):
    if shutil.which(program):
        return True
    print(f"skipped: deploy: what needs {program}, which is not here")
    return False


def run(*command, **kwargs):
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    if done.returncode:
        fault(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()}")
    return done


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def validate(where, objects):
    """By the schemas of the oldest and the newest Kubernetes at hand."""
    try:
        import kubernetes_validate as schemas
    except ImportError:
        print(f"skipped: deploy: the schemas of {where}: kubernetes-validate is not installed")
        return
    for item in objects:
        if "." in item["apiVersion"].partition("/")[0] and "k8s.io" not in item["apiVersion"]:
            continue  # a custom resource: no schema
        try:
            schemas.validate(item, schemas.latest_version(), strict=True)
        except Exception as error:  # of several kinds, each with the path of the fault
            fault(f"{where}: {item['kind']} {item['metadata']['name']}: {str(error).splitlines()[0]}")


def find(objects, kind, name=None):
    found = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    if len(found) != 1:
        fault(f"{len(found)} of {kind} {name or ''}")
        return {}
    return found[0]


def hangs_together(where, objects, workload, name=None):
    """What refers to another object refers to one that is there."""
    owner = find(objects, workload, name)
    pods = owner.get("spec", {}).get("template", {})
    labels = pods.get("metadata", {}).get("labels", {})
    for item in objects:
        spec = item.get("spec", {})
        selector = spec.get("selector") if item["kind"] == "Service" else None
        if item["kind"] == "PodDisruptionBudget" or item is owner:
            selector = spec["selector"]["matchLabels"]
        if selector and not selector.items() <= labels.items():
            fault(f"{where}: {item['kind']} {item['metadata']['name']} selects no pod: {selector}")
    if not pods:
        return
    names = {(port["containerPort"], port["protocol"]) for port in pods["spec"]["containers"][0]["ports"]}
    for wanted in ((53, "UDP"), (53, "TCP"), (9153, "TCP")):
        if wanted not in names:
            fault(f"{where}: no port {wanted}")
    account = pods["spec"]["serviceAccountName"]
    if not any(o["kind"] == "ServiceAccount" and o["metadata"]["name"] == account for o in objects):
        fault(f"{where}: no service account {account}")


CERTIFICATE = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=dns.example"]


def corefile(where, objects):
    """The Corefile of a ConfigMap is one that this program takes."""
    text = find(objects, "ConfigMap", "coredns").get("data", {}).get("Corefile", "")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "Corefile")
        path.write_text(text.replace("/etc/corelane/tls", folder))
        if "tls.crt" in text:
            run(*CERTIFICATE, "-keyout", f"{folder}/tls.key", "-out", f"{folder}/tls.crt")
        done = subprocess.run([CORELANE, "check", path], capture_output=True, text=True)
        if done.returncode:
            fault(f"{where}: Corefile: {(done.stderr + done.stdout).strip()}")
    return text


def kustomize():
    if shutil.which("kustomize"):
        command = ["kustomize", "build"]
    elif here("kubectl"):
        command = ["kubectl", "kustomize"]
    else:
        return
    autoscalers = sorted(path.name for path in (DEPLOY / "kubernetes").glob("autoscaler*"))
    for overlay in ["deployment", "daemonset", *autoscalers]:
        workload = "DaemonSet" if overlay == "daemonset" else "Deployment"
        objects = documents(run(*command, DEPLOY / "kubernetes" / overlay).stdout)
        validate(overlay, objects)
        hangs_together(overlay, objects, workload, "coredns")
        if any((o["kind"], o["metadata"]["name"]) == ("ConfigMap", "coredns") for o in objects):
            fault(f"{overlay}: would overwrite the cluster's Corefile")
        for item in objects:
            target = item.get("spec", {}).get("scaleTargetRef")
            if target and (target["kind"], target["name"]) != (workload, "coredns"):
                fault(f"{overlay}: scales {target}")
    corefile("corefile", documents(run(*command, DEPLOY / "kubernetes/corefile").stdout))
    components(command)
    node_local()


def components(command):
    """An overlay of an operator's own, with all components, over each of ours."""
    kinds = {"deployment": "Deployment", "daemonset": "DaemonSet"}
    parts = sorted(path.name for path in (DEPLOY / "kubernetes/components").iterdir())
    for overlay, workload in kinds.items():
        with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
            here = pathlib.Path(folder)
            base = os.path.relpath(DEPLOY / "kubernetes", here)
            lines = {"resources": [f"{base}/{overlay}"], "components": [f"{base}/components/{part}" for part in parts]}
            (here / "kustomization.yaml").write_text(yaml.safe_dump(lines))
            objects = documents(run(*command, here).stdout)
        where = f"{overlay} with {', '.join(parts)}"
        validate(where, objects)
        hangs_together(where, objects, workload)
        pod = find(objects, workload).get("spec", {}).get("template", {}).get("spec")
        if not pod:
            continue
        container = pod["containers"][0]
        profile = container["securityContext"]["seccompProfile"]
        if profile != {"type": "Localhost", "localhostProfile": "corelane.json"}:
            fault(f"{where}: seccomp {profile}")
        if {"name": "CORELANE_IO_ENGINE", "value": "uring"} not in container.get("env", []):
            fault(f"{where}: io_uring is allowed, and not chosen")
        find(objects, "NetworkPolicy")


def node_local():
    """The node's cache: rights, addresses, the folder of the hand-over, a Corefile that is taken."""
    render = DEPLOY / "kubernetes/node-local/render"
    for service, listed in (("10.96.0.10", "169.254.20.10,10.96.0.10"), ("", "169.254.20.10")):
        objects = documents(run(render, service, "k8s.corp").stdout)
        validate("node-local", objects)
        on_each_node("node-local", objects, "node-local-dns", "kube-dns-upstream", listed)
    if subprocess.run([render, "10.96.0.10/12"], capture_output=True).returncode != 2:
        fault("node-local: render takes nonsense")


def on_each_node(where, objects, name, upstream, listed):
    """A node's cache: rights, addresses, the folder of the hand-over, a Corefile that is taken."""
    daemon_set = find(objects, "DaemonSet").get("spec", {})
    pod = daemon_set.get("template", {}).get("spec")
    if pod:
        if daemon_set["selector"]["matchLabels"].items() - daemon_set["template"]["metadata"]["labels"].items():
            fault(f"{where}: the DaemonSet selects none of its pods")
        container = pod["containers"][0]
        arguments = dict(zip(container["args"][::2], container["args"][1::2]))
        if arguments["-localip"] != listed:
            fault(f"{where}: addresses {container['args']}")
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        if arguments["-hand-over"] not in mounts or "/etc/kube-dns" not in mounts:
            fault(f"{where}: not all is mounted: {mounts}")
        if set(mounts.values()) != {volume["name"] for volume in pod["volumes"]}:
            fault(f"{where}: volumes and mounts differ: {mounts}")
        probed = {container[probe]["httpGet"]["host"] for probe in ("livenessProbe", "readinessProbe")}
        if probed != {listed.split(",")[0]}:
            fault(f"{where}: probes ask {probed}")
        rights = container["securityContext"]["capabilities"]
        if rights != {"add": ["NET_ADMIN", "NET_BIND_SERVICE"], "drop": ["ALL"]}:
            fault(f"{where}: capabilities {rights}")
        if "ports" in container or not pod["hostNetwork"]:
            fault(f"{where}: named ports keep a new pod from a node whose old one serves")
        service = find(objects, "Service", upstream).get("spec", {})
        if arguments["-upstreamsvc"] != upstream or "clusterIP" in service:
            fault(f"{where}: asks {arguments['-upstreamsvc']}, and not {upstream}")
        if service["selector"].items() <= daemon_set["template"]["metadata"]["labels"].items():
            fault(f"{where}: asks itself")
        text = find(objects, "ConfigMap", name).get("data", {}).get("Corefile", "")
        if "k8s.corp:53 {" not in text:
            fault(f"{where}: another domain")
        first = listed.split(",")[0]
        for word, value in (
            ("__PILLAR__LOCAL__DNS__:", f"[{first}]:" if ":" in first else f"{first}:"),
            ("__PILLAR__LOCAL__DNS__", listed.replace(",", " ")),
            ("__PILLAR__DNS__SERVER__", ""),
            ("__PILLAR__CLUSTER__DNS__", "10.96.7.7"),
            ("__PILLAR__UPSTREAM__SERVERS__", "/etc/resolv.conf"),
        ):
            text = text.replace(word, value)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "Corefile")
            path.write_text(text)
            run(CORELANE, "check", path)


KUBECTL = """#!/bin/sh
# A cluster of a test: the files beside this one are what `get KIND NAME -o jsonpath=…` prints.
for word; do case $word in
    --raw) exit 0 ;;
    service | configmap | deployment) kind=$word ;;
    kube-dns | coredns) name=$word ;;
    jsonpath=*) path=$(printf %s "${word#jsonpath=}" | tr -cd a-zA-Z) ;;
    apply) exec cat ;;
esac; done
cat "$(dirname "$0")/$kind.$name${path:+.$path}" 2>/dev/null || true
"""


def cluster(folder, **files):
    """A folder with a kubectl that knows these answers."""
    path = pathlib.Path(folder, "kubectl")
    path.write_text(KUBECTL)
    path.chmod(0o755)
    for name, text in files.items():
        pathlib.Path(folder, name.replace("__", "-").replace("_", ".")).write_text(text)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def script():
    deploy = DEPLOY / "deploy.sh"
    with tempfile.TemporaryDirectory() as folder:
        env = cluster(folder)
        done = subprocess.run([deploy], capture_output=True, text=True, env=env)
        if done.returncode != 2 or "-i" not in done.stderr or done.stdout:
            fault(f"deploy.sh without a kube-dns: {done}")
        objects = documents(run(deploy, "-i", "10.0.0.10", "-d", "k8s.corp", "-r", "10.0.0.0/8", env=env).stdout)
        validate("deploy.sh", objects)
        hangs_together("deploy.sh", objects, "Deployment")
        if "kubernetes k8s.corp 10.0.0.0/8 {" not in corefile("deploy.sh", objects):
            fault("deploy.sh -d -r: not in the Corefile")
        old = run(deploy, "10.96.0.0/12", "10.244.0.0/16", "10.0.0.11", "k8s.corp", env=env).stdout
        if "kubernetes k8s.corp 10.96.0.0/12 10.244.0.0/16 {" not in old or "clusterIP: 10.0.0.11" not in old:
            fault("deploy.sh, positional: not understood")
        # A cluster that cannot be asked is not one that has nothing.
        pathlib.Path(folder, "kubectl").write_text("#!/bin/sh\necho refused >&2\nexit 1\n")
        for words, status in (([], 2), (["-i", "10.0.0.10"], 0)):
            done = subprocess.run([deploy, *words], capture_output=True, text=True, env=env)
            if done.returncode != status or "cannot be asked (refused)" not in done.stderr:
                fault(f"deploy.sh {words} without a cluster: {done}")
        # What may not be seen may be there: nothing is made that would overwrite it.
        forbids = '#!/bin/sh\ncase $2 in --raw) ;; *) echo forbidden >&2; exit 1 ;; esac\n'
        pathlib.Path(folder, "kubectl").write_text(forbids)
        done = subprocess.run([deploy, "-i", "10.0.0.10"], capture_output=True, text=True, env=env)
        if done.returncode == 0 or done.stdout or "forbidden" not in done.stderr:
            fault(f"deploy.sh where it may not look: {done}")

    with tempfile.TemporaryDirectory() as folder:
        env = cluster(
            folder,
            service_kube__dns_specclusterIP="10.96.0.10",
            configmap_kube__dns_dataupstreamNameservers='["192.0.2.1", "192.0.2.2"]',
            configmap_kube__dns_datafederations='{"a": "b.test"}',
            configmap_kube__dns_datastubDomains='{"corp.example" : ["192.0.2.3:5353"], "a.test": ["192.0.2.4", "192.0.2.5"]}',
            deployment_coredns_specselectormatchLabels='{"app.kubernetes.io/name":"coredns","k8s-app":"kube-dns"}',
            deployment_kube__dns="there",
        )
        done = run(deploy, env=env)
        objects = documents(done.stdout)
        hangs_together("deploy.sh over kube-dns", objects, "Deployment")
        text = corefile("deploy.sh over kube-dns", objects)
        for wanted in ("forward . 192.0.2.1 192.0.2.2 {", "corp.example:53 {", "forward . 192.0.2.4 192.0.2.5 {"):
            if wanted not in text:
                fault(f"deploy.sh over kube-dns: no {wanted!r} in the Corefile")
        if find(objects, "Service").get("spec", {}).get("clusterIP") != "10.96.0.10":
            fault("deploy.sh over kube-dns: another address")
        selector = find(objects, "Deployment").get("spec", {}).get("selector", {}).get("matchLabels")
        if selector != {"k8s-app": "kube-dns", "app.kubernetes.io/name": "coredns"}:
            fault(f"deploy.sh over kube-dns: another selector: {selector}")
        for wanted in ("delete deployment kube-dns", "federations of the ConfigMap kube-dns are left out"):
            if wanted not in done.stderr:
                fault(f"deploy.sh over kube-dns: does not say {wanted!r}")
        plain = corefile("deploy.sh -s", documents(run(deploy, "-s", env=env).stdout))
        if "192.0.2." in plain:
            fault("deploy.sh -s: translated all the same")

    with tempfile.TemporaryDirectory() as folder:
        env = cluster(folder, service_kube__dns_specclusterIP="10.96.0.10", configmap_coredns="there")
        kept = documents(run(deploy, "-a", env=env).stdout)
        if any(item["kind"] == "ConfigMap" for item in kept):
            fault("deploy.sh: overwrites a Corefile that is there")
        corefile("deploy.sh -f", documents(run(deploy, "-f", env=env).stdout))
        for wrong in (
            ["-d", "a b"], ["-i", "x/y"], ["-i", "10.0.0.256"], ["-i", "1::2::g"], ["-r", "a|b"],
            ["-r", "10.0.0.0/33"], ["-r", "10.0.0.0"], ["-t", "/nowhere"], ["-k", "/nowhere"], ["-x"],
            ["10.96.0.0/12", "k8s.corp", "more"],
        ):
            if subprocess.run([deploy, *wrong], capture_output=True, env=env).returncode != 2:
                fault(f"deploy.sh {wrong}: taken")
        template = pathlib.Path(folder, "template")
        template.write_text("CLUSTER_DNS_IP CLUSTER_DOMAIN REVERSE_CIDRS UPSTREAMNAMESERVER FEDERATIONS\n")
        made = run(deploy, "-s", "-t", template, env=env).stdout
        if made != "10.96.0.10 cluster.local in-addr.arpa ip6.arpa /etc/resolv.conf \n":
            fault(f"deploy.sh -t: {made}")
    for wrong in (["-n", "x"], ["-k", "/nowhere"], ["-x"]):
        if subprocess.run([DEPLOY / "rollback.sh", *wrong], capture_output=True).returncode != 2:
            fault(f"rollback.sh {wrong}: taken")
    back = run(DEPLOY / "rollback.sh", "-n", "3").stdout
    if "rollout undo deployment/coredns --to-revision=3" not in back:
        fault(f"rollback.sh: {back}")


HELM = ["helm", "template", "coredns", DEPLOY / "helm/corelane", "-n", "kube-system", "--kube-version", "1.32.0"]


def chart():
    if not here("helm"):
        return
    path = DEPLOY / "helm/corelane"
    run("helm", "lint", "--strict", path)
    for values in [None, *sorted((ROOT / "tests/deploy/values").glob("*.yaml"))]:
        where = f"chart with {values.name if values else 'its defaults'}"
        extra = ["-f", values] if values else []
        objects = documents(run(*HELM, *extra).stdout)
        validate(where, objects)
        if not values:
            hangs_together(where, objects, "Deployment")
        elif values.name.startswith("every-name"):
            honoured(where, yaml.safe_load(values.read_text()), objects)
        elif values.name == "tls.yaml":
            encrypted(where, objects)
        corefile(where, objects)
    refused()
    policy()


def encrypted(where, objects):
    """The port of DNS over TLS is TCP alone, and its certificate can be read by who is not root."""
    pod = next(one for one in objects if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    ports = {(port["containerPort"], port["protocol"]) for port in pod["containers"][0]["ports"]}
    if not {(853, "TCP"), (53, "UDP")} <= ports or (853, "UDP") in ports:
        fault(f"{where}: ports {sorted(ports)}")
    if "fsGroup" not in pod.get("securityContext", {}):
        fault(f"{where}: nobody but root can read the certificate")


def leaves(value):
    """The names and contents of a tree of values."""
    if isinstance(value, dict):
        yield from value
        value = value.values()
    elif not isinstance(value, list):
        yield value
        return
    for item in value:
        yield from leaves(item)


def honoured(where, values, objects):
    """Each value that can be known again is found in what is rendered."""
    text = yaml.safe_dump_all(objects, width=1000)
    for leaf in leaves(values):
        word = str(leaf)
        if re.search(r"is-|^(7\d\d\d\w*|192\.0\.2\.7.|10\.96\.70\.10)$", word) and word not in text:
            fault(f"{where}: {word} has no effect")


# What cannot be honoured, with a word of what is said.
REFUSED = {
    "image.repository=coredns/coredns": "CoreDNS's own image",
    "image.repository=registry.k8s.io/coredns/coredns": "CoreDNS's own image",
    "rbac.pspEnable=true": "no PodSecurityPolicy",
    "preStopSleep=5": "lameduck",
    "dnsConfig.nameservers[0]=192.0.2.1": "deployment.dnsConfig",
    "deployment.dnsPolicy=None": "needs deployment.dnsConfig",
}


def refused():
    for value, word in REFUSED.items():
        done = subprocess.run([*HELM, "--set", value], capture_output=True, text=True)
        if not done.returncode or word not in done.stderr:
            fault(f"chart with {value}: {done.stderr or 'taken'}")


def policy():
    """Without a word there is no NetworkPolicy; with one, metrics are for those who are named."""
    def rules(*settings):
        sets = [word for setting in settings for word in ("--set", setting)]
        objects = documents(run(*HELM, *sets).stdout)
        return [o["spec"]["ingress"] for o in objects if o["kind"] == "NetworkPolicy"]

    if rules():
        fault("chart: a NetworkPolicy that nobody asked for")
    asked = ["networkPolicy.enabled=true"]
    dns = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    monitoring = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    metrics = {"ports": [{"port": 9153, "protocol": "TCP"}], "from": monitoring}
    if rules(*asked) != [[dns, metrics]]:
        fault(f"chart: NetworkPolicy {rules(*asked)}")
    nobody = rules(*asked, "networkPolicy.metricsFrom=null")
    if nobody != [[dns]]:
        fault(f"chart: metrics for nobody: {nobody}")


PANELS = {"heatmap", "stat", "table", "timeseries"}
UNITS = {"bytes", "cps", "percent", "percentunit", "reqps", "s", "short"}


def panel(where, one):
    """A panel is one that Grafana shows as it is meant."""
    if one["type"] not in PANELS or not one["title"]:
        fault(f"{where}: a panel of type {one['type']}")
    place = one["gridPos"]
    if not (0 <= place["x"] and place["x"] + place["w"] <= 24 and place["w"] > 0 < place["h"] and 0 <= place["y"]):
        fault(f"{where}: lies beside the board: {place}")
    defaults = one.get("fieldConfig", {}).get("defaults", {})
    if defaults.get("unit", "short") not in UNITS:
        fault(f"{where}: unknown unit {defaults['unit']}")
    steps = [step["value"] for step in defaults.get("thresholds", {}).get("steps", [])]
    if steps and (steps[0] is not None or steps[1:] != sorted(steps[1:])):
        fault(f"{where}: thresholds {steps} do not ascend from null")
    names = [target["refId"] for target in one["targets"]]
    if not names or len(names) != len(set(names)):
        fault(f"{where}: targets {names}")
    if any(target["datasource"] != one["datasource"] for target in one["targets"]):
        fault(f"{where}: two data sources")


def overlap(one, other):
    one, other = one["gridPos"], other["gridPos"]
    return all(one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in (("x", "w"), ("y", "h")))


def dashboards():
    """Looks through the boards; every expression of them, and where it stands."""
    texts, uids = [], set()
    for path in sorted((DEPLOY / "observability/dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        panels = board["panels"]
        if board["uid"] in uids or len(board["uid"]) > 40 or not board["title"] or "corelane" not in board["tags"]:
            fault(f"{path.name}: uid, title or tags")
        uids.add(board["uid"])
        if len({one["id"] for one in panels}) != len(panels) or not all(one["id"] > 0 for one in panels):
            fault(f"{path.name}: the ids of its panels")
        for at, one in enumerate(panels):
            panel(f"{path.name}: {one['title']}", one)
            texts += [(f"{path.name}: {one['title']}", target["expr"]) for target in one["targets"]]
            for other in panels[:at]:
                if overlap(one, other):
                    fault(f"{path.name}: {one['title']} lies over {other['title']}")
        texts += [(f"{path.name}: {one['name']}", one["target"]["expr"]) for one in board["annotations"]["list"]]
        variables = {one["name"] for one in board["templating"]["list"]} | {"__rate_interval"}
        for name in set(re.findall(r"\$\{?(\w+)", json.dumps(board))) - variables - {"__all"}:
            fault(f"{path.name}: no variable ${name}")
    return texts


def expressions():
    """What dashboards ask is PromQL: read as rules."""
    rules = []
    for at, (where, text) in enumerate(dashboards()):
        for variable, value in (("$__rate_interval", "5m"), ("$job", ".*"), ("$instance", ".*")):
            text = text.replace(variable, value)
        rules.append({"record": f"read:{at}", "expr": text, "labels": {"where": where}})
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "rules.yaml")
        path.write_text(yaml.safe_dump({"groups": [{"name": "read", "rules": rules}]}))
        run("promtool", "check", "rules", path)


def series():
    """What rules and dashboards name is what this program exports or the rules record."""
    rules = yaml.safe_load((DEPLOY / "observability/corelane.rules.yaml").read_text())
    all_rules = [rule for group in rules["groups"] for rule in group["rules"]]
    recorded = {rule["record"] for rule in all_rules if "record" in rule}
    texts = [(rule.get("alert") or rule["record"], rule["expr"]) for rule in all_rules]
    adapter = yaml.safe_load((DEPLOY / "kubernetes/autoscaler-saturation/prometheus-adapter.yaml").read_text())
    texts += [("prometheus-adapter.yaml", rule["seriesQuery"]) for rule in adapter["rules"]["custom"]]
    named = {rule["name"]["as"] for rule in adapter["rules"]["custom"]}
    scaled = yaml.safe_load((DEPLOY / "kubernetes/autoscaler-saturation/horizontal.yaml").read_text())
    wanted = {metric["pods"]["metric"]["name"] for metric in scaled["spec"]["metrics"] if metric["type"] == "Pods"}
    if wanted != named:
        fault(f"autoscaler-saturation: scales by {wanted}, and the adapter makes {named}")
    texts += dashboards()
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.rs"))
    exported = set(re.findall(r'"((?:coredns|corelane|process)_[a-z0-9_]+)"', source))
    for where, text in texts:
        for name in re.findall(r"\b(?:job\w*:[\w:]+|(?:coredns|corelane|process)_\w+)", text):
            base = re.sub(r"_(bucket|count|sum)$", "", name)
            if name not in recorded and name not in exported and base not in exported:
                fault(f"{where}: nothing exports {name}")
    pages = re.findall(r"^## (\w+)$", (DEPLOY / "observability/runbook.md").read_text(), re.M)
    alerts = {rule["alert"] for rule in all_rules if "alert" in rule}
    for alert in sorted(alerts ^ set(pages)):
        fault(f"runbook.md and the rules differ: {alert}")
    tests = yaml.safe_load((DEPLOY / "observability/corelane.rules.test.yaml").read_text())["tests"]
    fires = {check["alertname"] for test in tests for check in test.get("alert_rule_test", []) if check["exp_alerts"]}
    for alert in sorted(alerts ^ fires):
        fault(f"corelane.rules.test.yaml and the rules differ: no test in which {alert} fires")


def observability():
    folder = DEPLOY / "observability"
    run(sys.executable, folder / "dashboards.py", "--check")
    series()
    if here("promtool"):
        run("promtool", "check", "rules", folder / "corelane.rules.yaml")
        run("promtool", "test", "rules", folder / "corelane.rules.test.yaml")
        expressions()


# Of ten; what is left is that it talks to the network.
EXPOSURE_TENTHS_MAX = 20


def units():
    if here("systemd-analyze"):
        with tempfile.TemporaryDirectory() as folder:
            paths = [pathlib.Path(folder, name) for name in ("corelane.service", "corelane.socket")]
            for path in paths:
                text = (DEPLOY / "systemd" / path.name).read_text()
                path.write_text(text.replace("/usr/bin/corelane", str(CORELANE)))
            done = run("systemd-analyze", "verify", "--man=no", *paths)
            if done.stderr.strip():
                fault(f"units: {done.stderr.strip()}")
            run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_TENTHS_MAX}", paths[0])


def image():
    """The Containerfile is of what the manifests expect; and, if an image was made, it serves."""
    said = {}
    for line in (DEPLOY / "Containerfile").read_text().splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            said.setdefault(word, []).append(rest)
    for word, expected in {
        "FROM": ["scratch"],
        "COPY": ["rootfs/ /"],
        "USER": ["65532:65532"],
        "ENTRYPOINT": ['["/coredns"]'],
    }.items():
        if said.get(word) != expected:
            fault(f"Containerfile: {word} {said.get(word)} is not {expected}")
    for word in {"ADD", "RUN", "VOLUME"} & said.keys():
        fault(f"Containerfile: {word}: an image from scratch has nothing to run or to fetch")
    rootfs = ROOT / "target/image/rootfs"
    if not rootfs.exists():
        print("skipped: deploy: what is in the image: `make image` has made none")
    elif command := apart("what is in the image", "--net", "--mount"):
        run(*command, sys.executable, ROOT / "tests/deploy/image.py", rootfs)
        done = run(*command, sys.executable, ROOT / "tests/deploy/container.py", rootfs.parent)
        print(done.stdout, end="")


def apart(what, *flags):
    """The command that gives a test namespaces of its own; `None`, and a line: they cannot be had."""
    command = ["unshare", *flags]
    may = os.geteuid() == 0 and shutil.which("unshare")
    if may and not subprocess.run([*command, "true"], capture_output=True).returncode:
        return command
    print(f"skipped: deploy: {what}: that needs root, and namespaces of its own (unshare)")
    return None


def package():
    """The Debian package is built, looked at, installed and run."""
    if not (here("dpkg-deb") and here("objcopy")):
        return
    if command := apart("the Debian package", "--net", "--mount"):
        done = run(*command, sys.executable, ROOT / "tests/deploy/package.py", CORELANE)
        print(done.stdout, end="")


def service():
    """The package's service lives where systemd is the first process."""
    if not here("dpkg-deb"):
        return
    if command := apart("the service where systemd is the first process", "--net", "--mount"):
        done = run(*command, sys.executable, ROOT / "tests/deploy/service.py", CORELANE)
        print(done.stdout, end="")


def seccomp():
    """The profile holds what the program does, and the program works beneath it."""
    flags = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if command := apart("runs beneath the seccomp profile", *flags):
        done = run(*command, sys.executable, ROOT / "tests/deploy/system_calls.py", CORELANE)
        print(done.stdout, end="")


for check in (kustomize, script, chart, observability, units, image, package, service, seccomp):
    check()
for line in faults:
    print(line)
sys.exit(bool(faults))
