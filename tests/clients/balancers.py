"""HAProxy and nginx in front of servers, by the configurations that the guide shows."""

import signal
import socket
import subprocess
from pathlib import Path

import kubectls
from harness import ROOT, WORK, Reachable, expect, stats, until

EXAMPLES = ROOT / "examples" / "balanced"
# The addresses in the configurations.
PLAIN, TLS = "127.0.0.1:8000", "127.0.0.1:8443"
REPLICAS = ["127.0.0.1:8001", "127.0.0.1:8002"]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def install():
    """Installs both programs; False if one cannot be had."""
    return kubectls.need("haproxy", "haproxy") and kubectls.need("nginx", "nginx-light")


class Balancer(Reachable):
    """A program in front of two replicas, which have to be there first.

    `changes` replaces parts of its configuration, each of which is there exactly once. With
    `over_tls`, clients reach it over TLS, and send a token. Its replicas are reached without TLS.
    """

    scheme = "http"
    wire = None
    gone_within = 2

    def __init__(self, replicas, identity, changes=(), over_tls=False):
        self.name = f"balanced-{type(self).__name__.lower()}-{free_port()}"
        self.folder = WORK / self.name
        self.folder.mkdir(parents=True, exist_ok=True)
        pem = self.folder / "pod-server.pem"
        pem.write_bytes(identity.cert.read_bytes() + identity.key.read_bytes())
        plain, tls = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.scheme, self.address = ("https", tls) if over_tls else ("http", plain)
        self.access = identity.access if over_tls else []
        text = (EXAMPLES / self.source).read_text()
        known = [(PLAIN, plain), (TLS, tls), (self.pem, str(pem)), *self.more()]
        known += [(old, new.address) for old, new in zip(REPLICAS, replicas, strict=True)]
        for old, new in [*known, *changes]:
            count = text.count(old)
            expect(count == 1 or old == self.pem and count, f"{count} times in {self.source}: {old}")
            text = text.replace(old, new)
        self.configuration = self.folder / self.source
        self.configuration.write_text(text)
        self.process = None
        # Those that a reload has left behind.
        self.old = []

    def __enter__(self):
        self.begin()
        return self

    def __exit__(self, *_):
        for process in [self.process, *self.old]:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def more(self):
        """Returns further replacements."""
        return []

    def begin(self, *more):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*self.command(), *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        expect(until(10, self.listens), f"it does not listen: {self.folder}/log")

    def listens(self):
        expect(self.process.poll() is None, f"it has ended: {self.folder}/log")
        try:
            socket.create_connection(self.host_port, 1).close()
        except OSError:
            return False
        return True


class HAProxy(Balancer):
    source, pem = "haproxy.cfg", "/etc/haproxy/pod-server.pem"

    def command(self):
        return ["haproxy", "-db", "-f", self.configuration]

    def more(self):
        # Short, because the address of a socket is.
        self.admin = f"/tmp/{self.name}.sock"
        return [("/run/haproxy/admin.sock", self.admin)]

    def set_state(self, number, state):
        """Tells it not to send new sessions to a replica (`drain`), or to do so again (`ready`)."""
        answer = self.ask(f"set server replicas/{('one', 'two')[number]} state {state}")
        expect(not answer, f"{state}: {answer}")

    def is_up(self, number):
        """Returns whether its health checks have found a replica."""
        lines = self.ask("show servers state replicas").splitlines()
        names = lines[1].lstrip("# ").split()
        return dict(zip(names, lines[2 + number].split()))["srv_op_state"] == "2"

    def ask(self, words):
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(self.admin)
            admin.sendall(f"{words}\n".encode())
            return admin.makefile().read().strip()

    def __exit__(self, *error):
        super().__exit__(*error)
        Path(self.admin).unlink(missing_ok=True)

    def reload(self):
        """Starts it anew. The old process keeps its sessions."""
        self.old.append(self.process)
        self.begin("-sf", str(self.process.pid))

    @staticmethod
    def idle(seconds):
        """The change that makes it cut sessions without data after so many seconds."""
        return [("timeout tunnel 90s", f"timeout tunnel {seconds}s")]


class Nginx(Balancer):
    source, pem = "nginx.conf", "/etc/nginx/pod-server.pem"

    def command(self):
        # One process to end, and nothing of it elsewhere.
        directives = f"daemon off; pid {self.folder}/pid;"
        return ["nginx", "-c", self.configuration, "-p", self.folder, "-e", "stderr", "-g", directives]

    def reload(self):
        """Starts new workers. The old ones keep their sessions."""
        workers = self.workers()
        self.process.send_signal(signal.SIGHUP)
        expect(until(10, lambda: self.workers() - workers), f"no new workers: {self.folder}/log")

    def workers(self):
        return {pid for pid, fields in stats() if int(fields[1]) == self.process.pid}

    @staticmethod
    def idle(seconds):
        return [
            (f"proxy_{way}_timeout 90s", f"proxy_{way}_timeout {seconds}s")
            for way in ("read", "send")
        ]


ALL = [HAProxy, Nginx]
