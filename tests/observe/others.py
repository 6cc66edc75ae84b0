"""Whom a server of a test asks: an upstream, and as much of an API server as a watch needs."""

import http.server
import json
import socket
import threading
import time


class Upstream:
    """Answers every query with an address; in an outage with SERVFAIL."""

    def __init__(self):
        self.outage = False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x0a\0\0\1"
        while True:
            query, client = self.socket.recvfrom(4096)
            end = 12
            while query[end]:
                end += query[end] + 1
            end += 5
            if self.outage:
                reply = query[:2] + b"\x81\x82\0\1\0\0\0\0\0\0" + query[12:end]
            else:
                reply = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:end] + record
            self.socket.sendto(reply, client)


def objects(plural):
    """What the cluster has."""
    meta = {"namespace": "team-a", "name": "web", "uid": "1", "resourceVersion": "1"}
    if plural == "namespaces":
        return [{"metadata": {"name": "team-a", "uid": "2", "resourceVersion": "1"}}]
    if plural == "services":
        ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
        return [{"metadata": meta, "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": ports}}]
    if plural == "endpointslices":
        return [endpoint_slice("127.0.0.2")]
    return []


def endpoint_slice(address):
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    meta = {"namespace": "team-a", "name": "web-1", "uid": "3", "resourceVersion": str(time.time_ns()),
            "labels": {"kubernetes.io/service-name": "web"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": now}}
    return {"metadata": meta, "addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}, {"addresses": [address]}],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}


class Api(http.server.BaseHTTPRequestHandler):
    """As much of an API server as a watch needs: a list, then a change of the endpoints now and then."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        plural = self.path.split("?")[0].rsplit("/", 1)[-1]
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        if "watch=true" not in self.path:
            body = json.dumps({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"},
                               "items": objects(plural)}).encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            if "sendInitialEvents=true" in self.path:
                for item in objects(plural):
                    self.event("ADDED", item)
                end = {"resourceVersion": "1", "annotations": {"k8s.io/initial-events-end": "true"}}
                self.event("BOOKMARK", {"metadata": end})
            number = 2
            while True:
                time.sleep(0.5)
                if plural == "endpointslices":
                    number += 1
                    self.event("MODIFIED", endpoint_slice(f"127.0.0.{number % 200 + 2}"))
        except OSError:  # the watch is over
            self.close_connection = True

    def event(self, kind, item):
        line = json.dumps({"type": kind, "object": item}).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))


def api():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]
