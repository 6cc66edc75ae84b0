"""A server of a test, and queries to it."""

import pathlib
import socket
import struct
import subprocess
import tempfile
import time


def free_port():
    """A port that nobody listens on now, neither by UDP nor by TCP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                try:
                    udp.bind(("127.0.0.1", port))
                    return port
                except OSError:
                    continue


class Server:
    """corelane with a Corefile, until `end`."""

    def __init__(self, program, corefile):
        self.folder = tempfile.TemporaryDirectory()
        path = pathlib.Path(self.folder.name, "Corefile")
        path.write_text(corefile)
        self.port = free_port()
        self.log = open(pathlib.Path(self.folder.name, "log"), "wb+")
        self.process = subprocess.Popen([program, "-conf", path, "-dns.port", str(self.port)],
                                        stdout=self.log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while self.ask("ready.test", 1) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                raise RuntimeError(f"the server does not serve: {self.log.read().decode()}")

    def ask(self, name, rtype, timeout=1.0, dnssec_ok=False):
        """The rcode of the reply to a question by UDP; none if there is no reply."""
        labels = [label.encode() for label in name.split(".")]
        encoded = b"".join(bytes([len(label)]) + label for label in labels)
        query = struct.pack("!6H", 7, 0x100, 1, 0, 0, int(dnssec_ok)) + encoded + struct.pack("!BHH", 0, rtype, 1)
        if dnssec_ok:
            query += struct.pack("!BHHIH", 0, 41, 1232, 0x8000, 0)  # OPT with DO
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            sock.connect(("127.0.0.1", self.port))
            try:
                sock.send(query)
                return sock.recv(4096)[3] & 15
            except OSError:  # late, or nobody listens yet
                time.sleep(0.01)
                return None

    def end(self):
        self.process.kill()
        self.process.wait()
