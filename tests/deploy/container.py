"""Runs the image that `make image` has laid out under each container runtime at hand, as the kubelet has it done for a
pod of the manifests: no right but that to port 53, no way to more, files that cannot be written, and a seccomp
profile. The command line is that of a stock CoreDNS pod.

    unshare --net --mount python tests/deploy/container.py FOLDER-OF-ROOTFS

Needs root, a network and mounts of its own, and crun or runc; with buildah the files are those of an image that was
built and unpacked again. A line for each fault, and exit status 1.
"""

import fcntl
import json
import os
import pathlib
import platform
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from image import IFF_UP, SIOCSIFFLAGS, ask

ROOT = pathlib.Path(__file__).resolve().parents[2]
OURS = ROOT / "deploy/kubernetes/seccomp/corelane.json"
# What podman and CRI-O have for a pod that asks for `RuntimeDefault`; containerd's is much the same.
THEIRS = pathlib.Path("/usr/share/containers/seccomp.json")
CAPABILITIES = ["CAP_NET_BIND_SERVICE"]
SECONDS = 60
LAMEDUCK_SECONDS = 2
COREFILE = """.:53 {
    errors
    health {
        lameduck 2s
    }
    ready
    prometheus :9153
    hosts {
        192.0.2.1 www.example
    }
    forward . /etc/resolv.conf
    cache 30
    loop
    reload
    loadbalance
}
"""
REFUSED = "io_uring cannot"


def run(*command, **kwargs):
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    if done.returncode:
        raise SystemExit(f"container: {' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def applies(group):
    """Whether a group of system calls is for this machine and these capabilities."""
    only, but = group.get("includes", {}), group.get("excludes", {})
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return (
        set(only.get("caps", ())) <= set(CAPABILITIES)
        and not set(but.get("caps", ())) & set(CAPABILITIES)
        and ("arches" not in only or machine in only["arches"])
        and machine not in but.get("arches", ())
    )


def seccomp(path):
    """A profile of a file, as a runtime is given it: without what says for whom a group is."""
    profile = json.loads(path.read_text())
    groups = [group for group in profile["syscalls"] if applies(group)]
    kept = ("names", "action", "args", "errnoRet")
    groups = [{name: group[name] for name in kept if group.get(name) is not None} for group in groups]
    machine = f"SCMP_ARCH_{platform.machine().upper()}"
    head = {name: profile[name] for name in ("defaultAction", "defaultErrnoRet") if name in profile}
    return {**head, "architectures": [machine], "syscalls": groups}


def unpacked(laid_out, folder):
    """The files of the image."""
    root = folder / "rootfs"
    if not shutil.which("buildah"):
        print("skipped: deploy: the image as buildah builds it, which is not here: its files are run")
        run("cp", "-a", laid_out / "rootfs", root)
        return root
    buildah = ["buildah", "--root", folder / "images", "--runroot", folder / "run", "--storage-driver", "vfs"]
    words = ["-q", "--isolation", "chroot", "-f", ROOT / "deploy/Containerfile", "-t", "corelane:test"]
    run(*buildah, "build", *words, laid_out)
    name = run(*buildah, "from", "--pull-never", "corelane:test").strip()
    said = json.loads(run(*buildah, "inspect", name))["OCIv1"]["config"]
    if (said["User"], said["Entrypoint"]) != ("65532:65532", ["/coredns"]):
        raise SystemExit(f"container: the image says {said}")
    # A layer keeps the capabilities of a file, and so does the copy.
    run("cp", "-a", run(*buildah, "mount", name).strip(), root)
    run(*buildah, "rm", name)
    return root


class Pod:
    """A container, from its start on."""

    def __init__(self, runtime, root, profile, *words, env=()):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=root.parent))
        for name, text in (("Corefile", COREFILE), ("resolv.conf", "nameserver 192.0.2.53\n")):
            (self.folder / name).write_text(text)
        (self.folder / "config.json").write_text(json.dumps(self.config(root, profile, words, env)))
        self.name = f"corelane-test-{self.folder.name}"
        # The command of a runtime: with nothing of cgroups, where it can be told so.
        managed = ["--cgroup-manager=disabled"] if runtime == "crun" else []
        self.command = [runtime, *managed, "--root", root.parent / "state"]
        self.log = (self.folder / "log").open("w+b")
        words = ["run", "--bundle", self.folder, "--pid-file", self.folder / "pid", self.name]
        streams = {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": self.log}
        self.process = subprocess.Popen([*self.command, *words], **streams)

    def config(self, root, profile, words, env):
        bind = {"type": "bind", "options": ["bind", "ro", "nosuid", "nodev"]}
        mounts = [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid"]},
            {"destination": "/etc/coredns/Corefile", "source": str(self.folder / "Corefile"), **bind},
            {"destination": "/etc/resolv.conf", "source": str(self.folder / "resolv.conf"), **bind},
        ]
        # As of a container of Kubernetes: permitted until the program is started, and then what its file keeps.
        rights = {name: CAPABILITIES for name in ("bounding", "effective", "permitted")}
        process = {
            "user": {"uid": 65532, "gid": 65532}, "args": words, "env": ["PATH=/", *env], "cwd": "/",
            "capabilities": rights, "noNewPrivileges": True,
        }
        names = ("pid", "mount", "ipc", "uts")
        linux = {"namespaces": [{"type": name} for name in names], **({"seccomp": profile} if profile else {})}
        return {
            "ociVersion": "1.0.2", "process": process, "root": {"path": str(root), "readonly": True},
            "mounts": mounts, "linux": linux,
        }

    def pid(self):
        return (self.folder / "pid").read_text().strip()

    def says(self):
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace").strip()

    def answers(self):
        end = time.monotonic() + SECONDS
        while (found := ask("www.example", 53)) != "192.0.2.1":
            if time.monotonic() > end or self.process.poll() is not None:
                raise SystemExit(f"container: www.example is {found}: {self.says()}")
            time.sleep(0.02)

    def ends(self):
        """TERM: it answers for `lameduck`, and ends with status 0."""
        begin, answers = time.monotonic(), 0
        run(*self.command, "kill", self.name, "TERM")
        while self.process.poll() is None:
            if time.monotonic() > begin + SECONDS:
                raise SystemExit(f"container: does not end: {self.says()}")
            answers += ask("www.example", 53) == "192.0.2.1"
            time.sleep(0.05)
        took = time.monotonic() - begin
        if self.process.returncode or took < LAMEDUCK_SECONDS or not answers:
            yield f"ends with {self.process.returncode} after {took:.1f} s and {answers} answers: {self.says()}"

    def kill(self):
        if self.process.poll() is None:
            run(*self.command, "kill", self.name, "KILL")
            self.process.wait(SECONDS)


def fetched(url):
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def stock(pod):
    """As a stock pod is."""
    pod.answers()
    lines = pathlib.Path("/proc", pod.pid(), "status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    if status["Uid"].split() != ["65532"] * 4 or int(status["CapEff"], 16) != 1 << 10:
        yield f"runs as {status['Uid']} with the capabilities {status['CapEff']}"
    if status["NoNewPrivs"] != "1" or status["Seccomp"] != ("2" if THEIRS.exists() else "0"):
        yield f"runs with NoNewPrivs {status['NoNewPrivs']}, Seccomp {status['Seccomp']}"
    for port, path in ((8080, "health"), (8181, "ready"), (9153, "metrics")):
        if (code := fetched(f"http://127.0.0.1:{port}/{path}")) != 200:
            yield f"{path} is {code}"
    said = pod.says()
    if any(word in said for word in ("not permitted", "denied", "ead-only", "panicked", "[WARNING]")):
        yield f"says: {said}"
    yield from pod.ends()


def rings(pod):
    """io_uring, where our profile is said."""
    pod.answers()
    files = pathlib.Path("/proc", pod.pid(), "fd").iterdir()
    if not any("io_uring" in os.readlink(file) for file in files) or REFUSED in pod.says():
        yield f"io_uring is not what runs under our profile: {pod.says()}"
    yield from pod.ends()


def without(pod):
    """io_uring is refused: it is said, and done without."""
    pod.answers()
    if REFUSED not in pod.says():
        yield f"io_uring under the runtime's profile: {pod.says()}"
    pod.kill()


def faults(runtime, root):
    theirs = seccomp(THEIRS) if THEIRS.exists() else None
    conf, asked = ("-conf", "/etc/coredns/Corefile"), ["CORELANE_IO_ENGINE=uring"]
    cases = [(stock, theirs, "/coredns", []), (rings, seccomp(OURS), "/corelane", asked)]
    if theirs:
        cases.append((without, theirs, "/coredns", asked))
    for case, profile, program, env in cases:
        pod = Pod(runtime, root, profile, program, *conf, env=env)
        try:
            for line in case(pod):
                yield f"{runtime}: {case.__name__}: {line}"
        finally:
            pod.kill()


def main():
    runtimes = [name for name in ("crun", "runc") if shutil.which(name)]
    if not runtimes:
        print("skipped: deploy: the image under a container runtime: neither crun nor runc is here")
        return False
    if not THEIRS.exists():
        print(f"skipped: deploy: the image under a runtime's own seccomp profile: no {THEIRS}")
    run("mount", "--make-rprivate", "/")
    # Of the two kinds of cgroups the runtimes want one.
    if not pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists():
        run("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        fcntl.ioctl(link, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        root = unpacked(pathlib.Path(sys.argv[1]), folder)
        for runtime in runtimes:
            found += faults(runtime, root)
    for line in found:
        print(f"container: {line}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
