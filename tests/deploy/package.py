"""Builds the Debian package of a binary, looks at it, installs it in a folder, and runs what it holds.

Run by check.py, as root in a network and a mount namespace of its own, since the service's Corefile names
port 53:

    unshare --net --mount python tests/deploy/package.py PATH-OF-CORELANE
"""

import fcntl
import gzip
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

from image import IFF_UP, SIOCSIFFLAGS, ask

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 60
EXPECTED = [
    "./etc/corelane/Corefile",
    "./usr/bin/corelane",
    "./usr/lib/systemd/system/corelane.service",
    "./usr/lib/systemd/system/corelane.socket",
    "./usr/share/doc/corelane/changelog.gz",
    "./usr/share/doc/corelane/copyright",
    "./usr/share/man/man1/corelane.1.gz",
]


def run(*command, **kwargs):
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    if done.returncode:
        raise SystemExit(f"package: {' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def looks_right(package):
    fields = {name: run("dpkg-deb", "--field", package, name).strip() for name in ("Package", "Depends", "Architecture")}
    if fields["Package"] != "corelane" or fields["Architecture"] != run("dpkg", "--print-architecture").strip():
        yield f"is of {fields}"
    if "libc6 (>= 2." not in fields["Depends"]:
        yield f"depends on {fields['Depends']}"
    contents = run("dpkg-deb", "--contents", package)
    files = {line.split()[-1]: line.split()[:2] for line in contents.splitlines()}
    for path in EXPECTED:
        if path not in files:
            yield f"lacks {path}"
    for path, (mode, owner) in files.items():
        if owner != "root/root" or mode[8] == "w":
            yield f"{path} is {mode} of {owner}"
    if shutil.which("lintian"):
        done = subprocess.run(
            ["lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", package],
            capture_output=True, text=True)
        if done.returncode:
            yield f"lintian: {done.stdout.strip()}"
    else:
        print("skipped: deploy: lintian, which is not here")


class Tree:
    """A folder in which packages are installed."""

    def __init__(self, root):
        self.root = root
        database = root / "var/lib/dpkg"
        for folder in ("info", "updates", "triggers"):
            (database / folder).mkdir(parents=True)
        (database / "status").touch()

    def dpkg(self, *words):
        run("dpkg", f"--root={self.root}", "--force-script-chrootless", "--force-depends", "--force-confold", *words)

    def path(self, name):
        return self.root / name.lstrip("/")


def installs(package, tree):
    tree.dpkg("--install", package)
    enabled = tree.path("/etc/systemd/system/multi-user.target.wants/corelane.service")
    if not enabled.is_symlink():
        yield "the service is not enabled"
    if tree.path("/etc/systemd/system/sockets.target.wants/corelane.socket").is_symlink():
        yield "the socket unit is enabled, which nobody has asked for"
    corefile = tree.path("/etc/corelane/Corefile")
    corefile.write_text(corefile.read_text() + "# mine\n")
    tree.dpkg("--install", package)
    if not corefile.read_text().endswith("# mine\n"):
        yield "an upgrade has overwritten the Corefile"
    tree.dpkg("--remove", "corelane")
    if not corefile.exists() or tree.path("/usr/bin/corelane").exists():
        yield "removal takes the Corefile, or leaves the program"
    tree.dpkg("--purge", "corelane")
    left = [path for path in ("/etc/corelane", "/usr/bin/corelane", "/usr/share/doc/corelane") if tree.path(path).exists()]
    left += [path for path in tree.path("/etc/systemd").rglob("corelane*")]
    if left:
        yield f"a purge leaves {left}"


def tells(folder):
    """The manual page has all flags and sub-commands."""
    page = folder / "usr/share/man/man1/corelane.1.gz"
    text = gzip.decompress(page.read_bytes()).decode().replace("\\-", "-")
    usage = run(folder / "usr/bin/corelane", "help").partition("\nPlugins:")[0]
    for line in usage.splitlines():
        if line.startswith("  ") and line[2] != " " and f".B {line.strip()}\n" not in text:
            yield f"the manual page lacks {line.strip()}"
    if shutil.which("groff"):
        done = subprocess.run(["groff", "-man", "-ww", "-z"], input=text.encode(), capture_output=True)
        if done.stderr:
            yield f"the manual page: {done.stderr.decode().strip()}"


def serves(folder):
    """What the service would start answers at once, with the Corefile that is in the package."""
    resolvers = folder / "resolv.conf"
    resolvers.write_text("nameserver 192.0.2.1\n")
    run("mount", "--bind", resolvers, "/etc/resolv.conf")
    program, corefile = folder / "usr/bin/corelane", folder / "etc/corelane/Corefile"
    run(program, "check", corefile)
    log = folder / "log"
    with log.open("w") as output:
        server = subprocess.Popen([program, "-conf", corefile], stdout=output, stderr=output)
    end, found = time.monotonic() + SECONDS, None
    while found != "127.0.0.1" and time.monotonic() < end and server.poll() is None:
        found = ask("localhost", 53)
        time.sleep(0.05)
    if found != "127.0.0.1":
        yield f"localhost is {found}: {log.read_text()}"
    server.send_signal(signal.SIGTERM)
    if server.wait(SECONDS):
        yield f"the server ends with {server.returncode}: {log.read_text()}"


def main():
    run("mount", "--make-rprivate", "/")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        fcntl.ioctl(link, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        env = os.environ | {"DEBFULLNAME": "corelane", "DEBEMAIL": "corelane@debian.org"}
        run(ROOT / "deploy/deb", "--binary", sys.argv[1], folder / "built", env=env)
        (package,) = (folder / "built").glob("corelane_*.deb")
        faults = list(looks_right(package))
        faults += installs(package, Tree(folder / "tree"))
        run("dpkg-deb", "--extract", package, folder / "extracted")
        faults += tells(folder / "extracted")
        faults += serves(folder / "extracted")
        run("umount", "/etc/resolv.conf")
    for line in faults:
        print(f"package: {line}")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
