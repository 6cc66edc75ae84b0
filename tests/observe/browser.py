"""The status page in a browser: it renders, it lives, and it asks nobody but its server.

    python tests/observe/browser.py PATH-OF-CORELANE [--screenshots FOLDER]

Chromium is driven through its own protocol over a pair of pipes. Exit status 1 and a line for each
fault.
"""

import argparse
import base64
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from others import Upstream, api
from server import Server, free_port

PATIENCE = 60  # seconds until something is taken to hang
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
faults = []


def fault(text):
    faults.append(text)


class Browser:
    """A headless Chromium with one empty page."""

    def __init__(self, program, folder):
        # It reads commands at descriptor 3 and writes answers to 4, each ended by a NUL.
        theirs_in, self.commands = os.pipe()
        self.answers, theirs_out = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-extensions",
                 "--remote-debugging-pipe", f"--user-data-dir={folder}"]
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]
        script = (f"import os, sys; os.dup2({theirs[0]}, 3); os.dup2({theirs[1]}, 4); "
                  "os.execv(sys.argv[1], sys.argv[1:])")
        self.process = subprocess.Popen([sys.executable, "-c", script, program, *flags, "about:blank"],
                                        pass_fds=theirs, start_new_session=True,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for end in (theirs_in, theirs_out, *theirs):
            os.close(end)
        os.set_blocking(self.answers, False)
        self.rest, self.number, self.events = b"", 0, []
        pages = [t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        attached = self.ask("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    session = None

    def message(self, deadline):
        while b"\0" not in self.rest:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise TimeoutError("the browser does not answer")
            try:
                self.rest += os.read(self.answers, 1 << 16)
            except BlockingIOError:
                time.sleep(0.01)
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def ask(self, method, **params):
        self.number += 1
        command = {"id": self.number, "method": method, "params": params}
        if self.session:
            command["sessionId"] = self.session
        os.write(self.commands, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            said = self.message(deadline)
            if said.get("id") == self.number:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error']}")
                return said["result"]
            self.events.append(said)

    def value(self, expression):
        said = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in said:
            raise RuntimeError(f"{expression}: {said['exceptionDetails']}")
        return said["result"].get("value")

    def until(self, expression):
        """Waits until the expression is true; its value."""
        deadline, error = time.monotonic() + PATIENCE, None
        while time.monotonic() < deadline:
            try:
                value, error = self.value(expression), None
            except RuntimeError as raised:
                # A page that is only just being read lacks what is asked about.
                value, error = None, raised
            if value:
                return value
            time.sleep(0.1)
        says = error or self.value("document.body.innerText")
        fault(f"the page never came to {expression}; it says: {says}")
        return None

    def end(self):
        # Its helpers, too: they write to its folder.
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


COREFILE = """
example.org {
    errors
    health 127.0.0.1:HEALTH
    prometheus 127.0.0.1:METRICS
    tsig {
        secret transfer. c2VjcmV0LW9mLXRoZS10ZXN0
    }
    cache 60 example.org
    template IN A {
        answer "{{ .Name }} 60 IN A 10.0.0.1"
    }
    template IN AAAA {
        rcode NXDOMAIN
    }
}
lost.example.org {
    errors
    prometheus 127.0.0.1:METRICS
    forward . 127.0.0.1:NOBODY
}
. {
    errors
    prometheus 127.0.0.1:METRICS
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        endpoint http://127.0.0.1:API
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }
    cache 30
    forward . 127.0.0.1:UPSTREAM
}
"""
# Markup in a name, as a hostile client would ask it.
HOSTILE = "<img src=x onerror=alert(1)>"


def text_of(browser, section):
    return browser.value(f"document.getElementById('{section}').innerText") or ""


def look(browser, server, health):
    url = f"http://127.0.0.1:{health}/status"
    browser.ask("Page.navigate", url=url)
    browser.until("document.documentElement.dataset.updates >= 1")
    seen = float(browser.value("last.cores.reduce((sum, core) => sum + core.queries, 0)"))
    for n in range(40):
        server.ask(f"busy.example.org", 1)
        server.ask(f"n{n % 4}.example.org", 1)
        server.ask(f"n{n % 20}.test", 1)
        server.ask("web.team-a.svc.cluster.local", 1)
        server.ask(f"{HOSTILE}.example.org", 28)
    server.ask("x.lost.example.org", 1)
    updates = browser.value("document.documentElement.dataset.updates")
    browser.until(f"document.documentElement.dataset.updates > {updates} + 1")
    now = float(browser.value("last.cores.reduce((sum, core) => sum + core.queries, 0)"))
    if now < seen + 201:
        fault(f"queries went from {seen} to {now}")
    browser.until("document.getElementById('trace').getAttribute('points').split(' ').length >= 3")
    for section, words in (
        ("figures", ["queries a second", "p99"]),
        ("zones", ["example.org.", "dns://:"]),
        ("cores", ["core"]),
        ("trouble", ["SERVFAIL", " unanswered."]),
        ("upstreams", ["127.0.0.1:", "p99.9"]),
        ("caches", ["example.org.", " of 64.0 MiB"]),
        ("kubernetes", ["endpointslices", "in sync"]),
        ("client", ["127.0.0.1"]),
        ("name", ["busy.example.org."]),
        ("nxdomain", ["<img"]),
        ("waiting", ["x.lost.example.org."]),
        ("errors", ["plugin/errors: 2 x.lost.example.org. A"]),
        ("corefile", ["template IN A {", "secret [hidden]", "µs"]),
    ):
        text = text_of(browser, section)
        for word in words:
            if word not in text:
                fault(f"{section}: no {word!r} in {text!r}")
    answered = "last.upstreams.filter(one => one.percentiles.p99 > 0 && one.percentiles.p99 < 60).length"
    if browser.value(answered) != 1:
        fault("not one upstream has replied: " + browser.value("JSON.stringify(last.upstreams)"))
    if "c2VjcmV0" in browser.value("JSON.stringify(last) + document.body.innerHTML"):
        fault("the page has the secret of the Corefile")
    if browser.value("document.getElementsByTagName('img').length"):
        fault("a name that was asked for became markup")


def top(corelane, health):
    """`corelane top` says the same."""
    done = subprocess.run([corelane, "top", "--server", f"127.0.0.1:{health}"], capture_output=True, text=True)
    for word in ("busy.example.org.", "x.lost.example.org.", " 127.0.0.1", "NXDOMAIN", "UPSTREAM"):
        if word not in done.stdout:
            fault(f"top: no {word!r} in {done}")


def outdated(browser, server):
    """A Corefile that does not load is told of until one does."""
    path = pathlib.Path(server.folder.name, "Corefile")
    good = path.read_text()
    for text, wanted in ((good.replace("errors", "nonsense"), "true"), (good, "false")):
        path.write_text(text)
        server.process.send_signal(signal.SIGUSR1)
        browser.until(f"String(last.generation.outdated) == '{wanted}'")
        said = "does not load" in text_of(browser, "trouble")
        if said != (wanted == "true"):
            fault(f"outdated {wanted}, and the page: {text_of(browser, 'trouble')}")


def schemes(browser, server, folder):
    colours = {}
    if folder:  # something to be seen
        updates = int(browser.value("document.documentElement.dataset.updates"))
        while int(browser.value("document.documentElement.dataset.updates")) < updates + 5:
            for n in range(40):
                server.ask(("web.team-a.svc.cluster.local", f"n{n}.test", "busy.example.org")[n % 3], 1)
    for scheme in ("light", "dark"):
        browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        style = "getComputedStyle(document.body)"
        colours[scheme] = [sum(int(part) for part in browser.value(f"{style}.{name}").strip("rgb()").split(","))
                           for name in ("backgroundColor", "color")]
        for name, width in (("", 1280), ("-narrow", 400)):
            browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
            if browser.value("document.documentElement.scrollWidth") > width:
                fault(f"the page is wider than {width} pixels")
            if folder:
                size = browser.ask("Page.getLayoutMetrics")["cssContentSize"]
                clip = {"x": 0, "y": 0, "width": width, "height": size["height"], "scale": 1}
                shot = browser.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
                (folder / f"status-{scheme}{name}.png").write_bytes(base64.b64decode(shot["data"]))
    if not (colours["light"][0] > 600 > 300 > colours["light"][1]):
        fault(f"light is not dark on light: {colours['light']}")
    if not (colours["dark"][0] < 150 < 500 < colours["dark"][1]):
        fault(f"dark is not light on dark: {colours['dark']}")


def quiet(browser, health, complaints_allowed):
    """No request to anybody else; no complaint on the console."""
    browser.value("1")  # whatever was said before
    for event in browser.events:
        method, params = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith((f"http://127.0.0.1:{health}/status", "data:", "about:")):
                fault(f"the page asks for {url}")
        if complaints_allowed:
            continue
        if method == "Runtime.exceptionThrown":
            fault(f"the page fails: {params['exceptionDetails']}")
        if method in ("Runtime.consoleAPICalled", "Log.entryAdded"):
            fault(f"the console says: {params}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corelane", type=pathlib.Path)
    parser.add_argument("--screenshots", type=pathlib.Path)
    arguments = parser.parse_args()
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not program:
        print("skipped: status page: Chromium is not here")
        return
    health = free_port()
    corefile = COREFILE.replace("HEALTH", str(health)).replace("NOBODY", str(free_port()))
    corefile = corefile.replace("UPSTREAM", str(Upstream().port)).replace("API", str(api()))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = Server(arguments.corelane, corefile.replace("METRICS", str(free_port())))
        browser = Browser(program, folder)
        try:
            look(browser, server, health)
            top(arguments.corelane, health)
            outdated(browser, server)
            schemes(browser, server, arguments.screenshots)
            quiet(browser, health, complaints_allowed=False)
            server.end()
            browser.until("document.getElementById('state').textContent.startsWith('no answer')")
            quiet(browser, health, complaints_allowed=True)
        finally:
            browser.end()
            server.end()


main()
for line in faults:
    print(line)
sys.exit(bool(faults))
