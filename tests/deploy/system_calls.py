"""Holds the seccomp profile to what the program does: all system calls of a run, with each engine, are in it, and
the program works beneath it. The filter of the systemd unit likewise.

    unshare --net python tests/deploy/system_calls.py PATH-OF-CORELANE

Needs root and a network of its own; strace for the first, the kernel's header of numbers (x86-64) for the second.
A line for each fault, and exit status 1.
"""

import ctypes
import fcntl
import json
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

from image import IFF_UP, SIOCSIFFLAGS, ask

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROFILE = ROOT / "deploy/kubernetes/seccomp/corelane.json"
UNIT = ROOT / "deploy/systemd/corelane.service"
NUMBERS = pathlib.Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
ENGINES = ("gso", "mmsg", "uring")
SECONDS = 60
UPSTREAM = ".:1053 {\n hosts {\n  192.0.2.1 www.example\n }\n}\n"
COREFILE = """. {
    errors
    log
    health
    ready
    prometheus
    reload 2s
    cache
    loop
    file zone zone.example
    forward . 127.0.0.1:1053 [::1]:1053 {
        force_tcp
    }
    forward example 127.0.0.1:1053
}
"""
ZONE = "@ 60 SOA ns hostmaster 1 60 60 60 60\n@ 60 NS ns\nns 60 A 192.0.2.1\n"


def names():
    profile = json.loads(PROFILE.read_text())
    found = [name for group in profile["syscalls"] for name in group["names"]]
    actions = {group["action"] for group in profile["syscalls"]}
    if profile["defaultAction"] != "SCMP_ACT_ERRNO" or actions != {"SCMP_ACT_ALLOW"}:
        yield "the profile is no list of what is allowed"
    for name in sorted({name for name in found if found.count(name) > 1}):
        yield f"{name} stands twice"


def allowed():
    return {name for group in json.loads(PROFILE.read_text())["syscalls"] for name in group["names"]}


def of_the_unit():
    """What the service's SystemCallFilter= leaves, by systemd's own groups; `None` where that is not here."""
    if not shutil.which("systemd-analyze"):
        return None
    groups, group = {}, None
    done = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        word = line.strip()
        if line.startswith("@"):
            group = groups.setdefault(word, [])
        elif line.startswith("    ") and not word.startswith("#") and group is not None:
            group.append(word)

    def calls(word):
        return {call for part in groups[word] for call in calls(part)} if word.startswith("@") else {word}

    left = set()
    for line in UNIT.read_text().splitlines():
        if line.startswith("SystemCallFilter="):
            words = line.removeprefix("SystemCallFilter=")
            named = {call for word in words.removeprefix("~").split() for call in calls(word)}
            left = left - named if words.startswith("~") else left | named
    return left


def confine(numbers):
    """Has every system call but these fail with EPERM from now on, in this process and its children."""
    statement = struct.Struct("HBBI")
    code = [statement.pack(0x20, 0, 0, 0)]  # the number of the call
    for number in sorted(numbers):
        code += [statement.pack(0x15, 0, 1, number), statement.pack(0x06, 0, 0, 0x7FFF0000)]
    code.append(statement.pack(0x06, 0, 0, 0x00050001))
    text = ctypes.create_string_buffer(b"".join(code))
    libc = ctypes.CDLL(None, use_errno=True)

    def apply():
        program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(text))
        # No new privileges; then the filter.
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program):
            raise OSError(ctypes.get_errno(), "no filter")

    return apply


def until(what, done):
    end = time.monotonic() + SECONDS
    while not done():
        if time.monotonic() > end:
            raise SystemExit(f"system calls: in vain: {what}")
        time.sleep(0.05)


def ask_by_stream():
    query = b"\0\7\1\0\0\1\0\0\0\0\0\0\3www\7example\0\0\1\0\1"
    with socket.create_connection(("127.0.0.1", 53), SECONDS) as link:
        link.sendall(struct.pack(">H", len(query)) + query)
        return link.recv(512)[-4:] == bytes([192, 0, 2, 1])


def serve(folder, engine, command, **kwargs):
    """One life of a server, and of its successor; gives what they have said."""
    log = folder / f"{engine}.log"
    words = ["-conf", "Corefile", "-pidfile", "pid", "-hand-over", ".", "-io-engine", engine]
    (folder / "pid").unlink(missing_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen([*command, *words], cwd=folder, stdout=output, stderr=output, **kwargs)

    def pid():
        return (folder / "pid").read_text().strip()

    def served():
        if process.poll() is not None and not log.read_text().count("Handed over"):
            raise SystemExit(f"system calls: {engine}: {log.read_text()}")
        return (folder / "pid").exists() and pid() and ask("www.example", 53) == "192.0.2.1"

    until("an answer", served)
    for _ in range(3):
        assert ask_by_stream(), log.read_text()
        ask("ns.zone.example", 53)
        ask("away.test", 53)
    for url in ("9153/metrics", "8080/health", "8080/status"):
        urllib.request.urlopen(f"http://localhost:{url}", timeout=SECONDS).read()
    first = pid()
    subprocess.run(["kill", "-USR1", first], check=True)
    until("a reload", lambda: "Reloading complete" in log.read_text())
    subprocess.run(["kill", "-USR2", first], check=True)
    until("a successor", lambda: "Handed over" in log.read_text() and pid() != first)
    assert ask_by_stream(), log.read_text()
    subprocess.run(["kill", "-TERM", pid()], check=True)
    process.wait(SECONDS)
    until("its end", lambda: ask("www.example", 53) is None)
    return log.read_text()


def seen(folder, binary, engine):
    table = folder / f"{engine}.table"
    serve(folder, engine, ["strace", "-f", "-c", "-U", "name", "-o", table, binary])
    found = {line.strip() for line in table.read_text().splitlines()}
    for name in sorted(found - allowed() - {"syscall", "total", ""}):
        if not name.startswith("--"):
            yield f"{engine}: {name} is not in the profile"
    left = of_the_unit()
    for name in sorted((found & allowed()) - left if left else ()):
        yield f"{engine}: {name} is refused by corelane.service"
    if "recvfrom" not in found or (engine == "uring") != ("io_uring_enter" in found):
        yield f"{engine}: the run does not show what it should: {sorted(found)}"


def works(folder, binary, engine):
    table = dict(re.findall(r"#define __NR_(\w+) (\d+)", NUMBERS.read_text()))
    numbers = {int(table[name]) for name in allowed() if name in table}
    said = serve(folder, engine, [binary], preexec_fn=confine(numbers))
    for line in said.splitlines():
        if "io_uring cannot" in line or "not permitted" in line:
            yield f"{engine}, beneath the profile: {line}"


def runs(binary):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, text in (("Corefile", COREFILE), ("zone", ZONE), ("upstream", UPSTREAM)):
            (folder / name).write_text(text)
        upstream = subprocess.Popen([binary, "-conf", folder / "upstream"], stdout=subprocess.DEVNULL)
        try:
            until("the upstream", lambda: ask("www.example", 1053) == "192.0.2.1")
            for engine in ENGINES:
                if TRACES:
                    yield from seen(folder, binary, engine)
                if NUMBERS.exists():
                    yield from works(folder, binary, engine)
        finally:
            upstream.kill()
            upstream.wait(SECONDS)


TRACES = bool(shutil.which("strace")) and not subprocess.run(["strace", "true"], capture_output=True).returncode


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        fcntl.ioctl(link, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    if not TRACES:
        print("skipped: deploy: what the seccomp profile lacks: strace is not here, or may not trace")
    if not NUMBERS.exists():
        print(f"skipped: deploy: a run beneath the seccomp profile: no {NUMBERS}")
    found = [*names(), *runs(binary)]
    for line in found:
        print(f"seccomp: {line}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
