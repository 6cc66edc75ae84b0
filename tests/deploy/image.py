"""Runs what `make image` has put into the image, as a cluster would: without root but for port 53, from
a file system that is read only and holds nothing else, with the two files that a pod is given.

    unshare --net --mount python tests/deploy/image.py ROOTFS

Needs root, and a network and mounts of its own. A line for each fault, and exit status 1.
"""

import fcntl
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

SECONDS = 10
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
# A pod's files: names that are in none of them are asked of the first server.
POD = {
    "etc/resolv.conf": "nameserver 127.0.0.1\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.0.1 in-hosts.example\n",
}
FIRST = """.:53 {
    errors
    health 127.0.0.1:8080
    hosts {
        127.0.0.1 in-dns.example
        192.0.2.1 www.example
        no_reverse
    }
}
"""
# Names by the hosts file and by DNS, which the C library looks up; and whom the system trusts.
SECOND = """. {
    errors
    forward www.example in-dns.example:53
    forward example in-hosts.example:53
    forward . tls://127.0.0.1%dns.example
}
"""


def command(*words):
    subprocess.run(words, check=True)


def ask(name, port):
    """The last four octets of the answer: an address."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
    with socket.socket(type=socket.SOCK_DGRAM) as link:
        link.settimeout(1)
        link.connect(("127.0.0.1", port))
        try:
            link.send(query)
            reply = link.recv(512)
        except OSError:
            return None
    return socket.inet_ntoa(reply[-4:]) if reply[7] else f"rcode {reply[3] & 15}"


class Pod:
    """A server from the image."""

    def __init__(self, root, name, *words):
        self.log = open(root.with_name(name), "w+b")
        # As the kubelet says: no way to more privileges than the container was given.
        chroot = ["chroot", "--userspec=65532:65532", root]
        self.process = subprocess.Popen([*chroot, *words], stdout=self.log, stderr=self.log)

    def answers(self, name, port, expected):
        end = time.monotonic() + SECONDS
        found = None
        while found != expected and time.monotonic() < end and self.process.poll() is None:
            found = ask(name, port)
            time.sleep(0.05)
        if found != expected:
            yield f"{name} at port {port}: {found} instead of {expected}: {self.said()}"

    def said(self):
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace").strip()[-300:]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(SECONDS)
        if status != 0:
            yield f"ended with {status}: {self.said()}"


def faults(root):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        fcntl.ioctl(link, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    for path, text in (POD | {"first": FIRST, "second": SECOND}).items():
        (root / path).write_text(text)
    (root / "proc").mkdir()
    command("mount", "--bind", root, root)
    command("mount", "-t", "proc", "proc", root / "proc")
    command("mount", "-o", "remount,bind,ro", root)
    first = Pod(root, "first.log", "/coredns", "-conf", "/first")
    yield from first.answers("www.example", 53, "192.0.2.1")
    second = Pod(root, "second.log", "/corelane", "-conf", "/second", "-dns.port", "1053")
    yield from second.answers("www.example", 1053, "192.0.2.1")
    yield from second.answers("in-dns.example", 1053, "127.0.0.1")
    status = pathlib.Path("/proc", str(first.process.pid), "status").read_text()
    status = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if status["Uid"].split() != ["65532"] * 4:
        yield f"runs as {status['Uid']}"
    if int(status["CapEff"], 16) != 1 << 10:
        yield f"has the capabilities {status['CapEff']}, and not NET_BIND_SERVICE alone"
    if "root certificates" in second.said():
        yield f"trusts nobody: {second.said()}"
    yield from second.stop()
    yield from first.stop()


def main():
    # In the folder of the image, as hard links and capabilities do not leave a file system.
    rootfs = pathlib.Path(sys.argv[1])
    command("mount", "--make-rprivate", "/")
    with tempfile.TemporaryDirectory(dir=rootfs.parent) as folder:
        os.chmod(folder, 0o755)
        root = pathlib.Path(folder, "root")
        command("cp", "-a", rootfs, root)
        found = list(faults(root))
        command("umount", "-R", root)
        shutil.rmtree(root)
    for line in found:
        print(f"image: {line}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
