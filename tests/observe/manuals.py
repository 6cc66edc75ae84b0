"""Every family on /metrics of a server with nearly all plugins is told of in a plugin's manual, and so is every
one that appears there only once something is counted.

    python tests/observe/manuals.py PATH-OF-CORELANE

Exit status 1 and a line for each fault.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.request

from others import Upstream, api
from server import Server, free_port

COREFILE = """
. {{
    metadata
    cancel
    timeouts {{
        idle 10s
    }}
    multisocket 1
    reload
    nsid
    bufsize
    bind 127.0.0.1
    debug
    trace zipkin 127.0.0.1:{nobody} {{
        every 1
    }}
    ready 127.0.0.1:{ready}
    health 127.0.0.1:{health}
    shed
    prometheus 127.0.0.1:{metrics} {{
        top
    }}
    errors
    log {{
        slow 1us
    }}
    dnstap tcp://127.0.0.1:{nobody} full
    local
    dns64
    any
    chaos
    loadbalance
    tsig {{
        secret key.test. NoTCJU+DMqFWywaPyxSijrDEA/eC3nK0xi3AMEZuPVk=
    }}
    rewrite name old.test new.test
    autopath @kubernetes
    acl {{
        block type AXFR net 192.0.2.0/24
    }}
    cache 30
    header {{
        response set ra
    }}
    minimal
    template IN A made.test {{
        answer "{{{{ .Name }}}} 60 IN A 192.0.2.1"
    }}
    transfer zone.test {{
        to *
    }}
    hosts {{
        192.0.2.2 host.test
        fallthrough
    }}
    k8s_external outside.test
    kubernetes cluster.local {{
        endpoint http://127.0.0.1:{api}
        pods verified
    }}
    loop
    forward . 127.0.0.1:{upstream}
}}
zone.test {{
    bind 127.0.0.1
    root {folder}
    prometheus 127.0.0.1:{metrics}
    file zone.db
}}
auto.test {{
    bind 127.0.0.1
    auto {{
        directory {folder}
    }}
}}
strange.test {{
    bind 127.0.0.1
    view all {{
        expr true
    }}
    on startup true
    erratic
}}
whoami.test {{
    bind 127.0.0.1
    whoami
}}
"""
ZONE = "@ 60 IN SOA ns h 1 60 60 60 60\n@ 60 IN NS ns\nns 60 IN A 192.0.2.3\n"
NAMES = ("host.test", "x.made.test", "ns.zone.test", "a.strange.test", "whoami.test", "web.team-a.svc.cluster.local",
         "none.team-a.svc.cluster.local", "old.test", "localhost", "elsewhere.test")


# What looks like a family in the source, and is none.
NONE = {"corelane_else": "a part of a line", "corelane_node_local": "a table of nftables", "corelane_state": "an option"}


def in_source():
    """The names of families, as the source has them."""
    names = set()
    for path in (pathlib.Path(__file__).resolve().parents[2] / "src").rglob("*.rs"):
        names |= set(re.findall(r'"((?:coredns|corelane|process)_[a-z0-9_]+[a-z0-9])"', path.read_text()))
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in names} - NONE.keys()


def said(*words):
    return subprocess.run([sys.argv[1], *words], capture_output=True, text=True, check=True).stdout


def main():
    faults = []
    built_in = said("-plugins").split()
    manuals = "".join(said("help", plugin) for plugin in said("-plugins").split())
    upstream = Upstream()
    metrics = free_port()
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "zone.db").write_text(ZONE)
        server = Server(sys.argv[1], COREFILE.format(
            metrics=metrics, nobody=free_port(), ready=free_port(), health=free_port(), api=api(),
            upstream=upstream.port, folder=folder))
        try:
            for name in NAMES:
                for rtype in (1, 28, 252):
                    server.ask(name, rtype, 0.5, dnssec_ok=True)
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10) as answer:
                families = re.findall(r"^# TYPE (\S+)", answer.read().decode(), re.M)
        finally:
            server.end()
    unknown = set(families) - in_source()
    if len(families) < 70 or unknown:
        faults.append(f"{len(families)} families, of which the source has not {sorted(unknown)}: this test sees too little")
    told = set(re.findall(r"`([a-z0-9_]+)[`{]", manuals))
    faults += [f"no manual tells of {name}" for name in sorted(in_source() | set(families)) if name not in told]
    print("\n".join(faults))
    sys.exit(bool(faults))


main()
