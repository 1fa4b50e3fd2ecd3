"""`kubectl port-forward`: a target of many manners, a session of it, and its checks."""

import hashlib
import http.client
import os
import queue
import re
import signal
import socket
import struct
import subprocess
import threading
import time

from harness import Failure, equal, expect, short, until
from session import MIB, PATIENCE, Session

# One block of a long transfer; a counter in front makes each different.
BLOCK = os.urandom(MIB)
PAGE = os.urandom(100_000)
# Uploads that nobody reads. The server takes 24 MiB and a window, and then stops all of the session for
# some 20 seconds, until it resets the one.
UNREAD, TOO_MUCH = 16, 64
# kubectl gives up after this time on a connection whose streams get no answer.
KUBECTL_GIVES_UP = 30
# The first kubectl that reads the rest of a download whose client is gone. With an older one, a fifth of
# the streams stands still from then on, because it serves them in five queues, by number. As it opens
# two for a connection, and one alone where that gets no answer, 3 of 10 connections get none. Nothing
# that a server sends moves such a queue.
READS_ON = (1, 32, 1)
# So many of ten connections are served at least beside one that stands still.
BESIDE = 7
# A pod that closes is seen this late at most. Go's runtimes take a second more.
SOON = 0.5
# The first kubectl that can tunnel at all.
TUNNELS = 30
LOST = "lost connection to pod"
TUNNEL = "SPDY/3.1+portforward.k8s.io"


def blocks(mib):
    for number in range(mib):
        yield struct.pack(">Q", number) + BLOCK[8:]


def sum_of(mib):
    digest = hashlib.sha256()
    for block in blocks(mib):
        digest.update(block)
    return digest.hexdigest().encode()


class Target:
    """A server in the place of the pod's: the first line of a connection says what it does.

    * `GET ...`: answers with a page, as HTTP.
    * `source N`: sends N MiB, and closes.
    * `sink`: reads to the end, and answers with the SHA-256.
    * `echo`: sends back what comes, to the end.
    * `late N`: reads to the end, waits N seconds, and answers.
    * `bye`: answers, and closes at once.
    * `deaf`: reads nothing until it is told.
    """

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.open = 0
        self.lock = threading.Lock()
        # Whether each connection ended as it should, as seen from here.
        self.ends = queue.Queue()
        self.hears = threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.hears.set()
        self.listener.close()

    def accept(self):
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.open += 1
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def serve(self, stream):
        word = None
        try:
            with stream:
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                line = b""
                while not line.endswith(b"\n"):
                    byte = stream.recv(1)
                    if not byte:
                        return
                    line += byte
                word, *rest = line.decode().split()
                getattr(self, word.lower())(stream, *rest)
            self.ends.put((word, None))
        except OSError as error:
            self.ends.put((word, error))
        finally:
            with self.lock:
                self.open -= 1

    def get(self, stream, *_):
        head = b""
        while b"\r\n\r\n" not in head:
            data = stream.recv(4096)
            if not data:
                return
            head += data
        stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(PAGE) + PAGE)
        while stream.recv(4096):
            pass

    def source(self, stream, mib):
        for block in blocks(int(mib)):
            stream.sendall(block)

    def sink(self, stream):
        digest = hashlib.sha256()
        while data := stream.recv(MIB):
            digest.update(data)
        stream.sendall(digest.hexdigest().encode())

    def echo(self, stream):
        while data := stream.recv(65536):
            stream.sendall(data)

    def late(self, stream, seconds):
        got = b""
        while data := stream.recv(65536):
            got += data
        time.sleep(float(seconds))
        stream.sendall(b"after the end of " + got)

    def bye(self, stream):
        stream.sendall(b"bye")

    def deaf(self, stream):
        self.hears.wait(PATIENCE)
        self.sink(stream)

    def rests(self, seconds=5):
        """Returns whether all connections have ended."""
        return until(seconds, lambda: self.open == 0)


class Forward(Session):
    """One `kubectl port-forward` of some ports of the pod.

    `tunnel` says whether it is asked to use a WebSocket.
    """

    def __init__(self, kubectl, server, home, ports, tunnel):
        super().__init__(kubectl, server, home)
        self.environment["KUBECTL_PORT_FORWARD_WEBSOCKETS"] = "true" if tunnel else "false"
        self.ports, self.tunnel = ports, tunnel
        self.local = {}
        self.told = ""

    def __enter__(self):
        self.process = self.begin(
            self.words("port-forward", "demo", *(f":{port}" for port in self.ports)),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        self.reading = threading.Thread(target=self.read, daemon=True)
        self.reading.start()
        if not until(PATIENCE, lambda: len(self.local) == len(self.ports) or not self.is_alive()):
            self.__exit__()
            raise Failure(f"it does not forward: {short(self.told)}")
        expect(self.is_alive(), f"it has ended: {short(self.told)}")
        return self

    def __exit__(self, *_):
        if self.is_alive():
            self.process.kill()
        self.process.wait()

    def read(self):
        for line in self.process.stdout:
            line = line.decode("utf-8", "replace")
            found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)", line)
            if found:
                self.local[int(found[2])] = int(found[1])
            elif not line.startswith(("Handling connection", "Forwarding from")):
                self.told += line

    def is_alive(self):
        return self.process.poll() is None

    def lives(self):
        expect(self.is_alive(), f"kubectl has ended: {short(self.told)}")

    def connect(self, port, line=None, window=None):
        stream = socket.socket()
        stream.settimeout(PATIENCE)
        if window:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        stream.connect(("127.0.0.1", self.local[port]))
        if line:
            stream.sendall(line.encode() + b"\n")
        return stream

    def page(self, port, patience=PATIENCE):
        """Fetches the page, and returns the seconds that it took."""
        started = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.local[port], timeout=patience)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        equal((answer.status, body == PAGE), (200, True), f"the page ({len(body)} bytes)")
        return time.monotonic() - started

    def pages(self, port, count, apart=0.0, patience=PATIENCE):
        """Fetches the page in as many threads; returns the errors."""
        errors = []

        def fetch():
            try:
                self.page(port, patience)
            except (OSError, http.client.HTTPException, Failure) as error:
                errors.append(error)

        threads = [threading.Thread(target=fetch) for _ in range(count)]
        for thread in threads:
            thread.start()
            time.sleep(apart)
        for thread in threads:
            thread.join()
        return errors


def read_all(stream):
    data = b""
    while more := stream.recv(MIB):
        data += more
    return data


def reset(stream):
    """Closes a connection in the way of a program that was killed with data unread."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


class Forwarding:
    """The checks of one kubectl in one manner, against one server."""

    def __init__(self, kubectl, server, home, tunnel, mib):
        self.kubectl, self.server, self.home = kubectl, server, home
        self.tunnel, self.mib = tunnel, mib

    def forward(self, *ports):
        return Forward(self.kubectl, self.server, self.home, ports, self.tunnel)

    def at_once(self):
        with Target() as target, self.forward(target.port) as forward:
            errors = forward.pages(target.port, 50)
            expect(not errors, f"{len(errors)} of 50 failed, the first: {errors[:1]}")
            forward.lives()
            expect(target.rests(), f"{target.open} connections to the target are left")

    def manner(self):
        """The way that this kubectl took, as the server saw it."""
        expect(self.server.at_rest(5), "a session of another check is left")
        start = self.server.log_size()
        # A session of another check may still be closing.
        last = max(map(int, re.findall(r"session\{id=(\d+)", self.server.log())), default=0)
        with Target() as target, self.forward(target.port) as forward:
            forward.page(target.port)

        def seen():
            found = re.findall(r"session\{id=(\d+) .*session over subprotocol=\"?([^\s\"}]+)", self.server.log(start))
            return {name for number, name in found if int(number) > last}

        expect(until(20, seen), "no session is over")
        # As a subprotocol of a WebSocket, or without the prefix by POST.
        equal(seen(), {TUNNEL if self.tunnel else "portforward.k8s.io"}, "subprotocols")

    def upload(self):
        with Target() as target, self.forward(target.port) as forward:
            started = time.monotonic()
            with forward.connect(target.port, "sink") as stream:
                for block in blocks(self.mib):
                    stream.sendall(block)
                stream.shutdown(socket.SHUT_WR)
                equal(read_all(stream), sum_of(self.mib), "the sum of the upload")
            return rate(self.mib, started)

    def download(self):
        with Target() as target, self.forward(target.port) as forward:
            started = time.monotonic()
            digest, length = hashlib.sha256(), 0
            with forward.connect(target.port, f"source {self.mib}") as stream:
                while data := stream.recv(MIB):
                    digest.update(data)
                    length += len(data)
            told = rate(self.mib, started)
            equal(length, self.mib * MIB, "bytes")
            equal(digest.hexdigest().encode(), sum_of(self.mib), "the sum of the download")
            return told

    def aborted(self):
        with Target() as target, self.forward(target.port) as forward:
            stream = forward.connect(target.port, "source 64")
            expect(stream.recv(65536), "the download did not begin")
            reset(stream)
            reads_on = self.kubectl.version >= READS_ON
            served = self.ten(forward, target, 10 if reads_on else BESIDE)
            if reads_on:
                # kubectl does not say that its client is gone, and takes the rest.
                expect(target.rests(PATIENCE), f"{target.open} connections to the target are left")
            return f"{served} of 10 were served"

    def ten(self, forward, target, at_least):
        """Makes ten connections beside one that stands still, and returns how many are served."""
        # One after the other, as a browser would: those that get no answer wait for kubectl.
        errors = forward.pages(target.port, 10, apart=0.2, patience=KUBECTL_GIVES_UP + 5)
        forward.lives()
        served = 10 - len(errors)
        expect(served >= at_least, f"only {served} of 10 were served: {errors[:1]}")
        return served

    def refused(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            dead = free.getsockname()[1]
        with Target() as target, self.forward(target.port, dead) as forward:
            with forward.connect(target.port, "echo") as healthy:
                for number in range(10):
                    with forward.connect(dead) as stream:
                        try:
                            equal(stream.recv(100), b"", "data from a port that refuses")
                        except ConnectionResetError:
                            pass
                    word = b"still here %d" % number
                    healthy.sendall(word)
                    equal(healthy.recv(100), word, "the echo of the healthy connection")
            forward.lives()
            forward.page(target.port)

    def stalled(self, mib=64):
        """A client that does not read, and ten others."""
        with Target() as target, self.forward(target.port) as forward:
            stalled = forward.connect(target.port, f"source {mib}", window=65536)
            # Until all windows on the way are full.
            time.sleep(2)
            served = self.ten(forward, target, BESIDE)
            digest = hashlib.sha256()
            with stalled:
                while data := stalled.recv(MIB):
                    digest.update(data)
            equal(digest.hexdigest().encode(), sum_of(mib), "the sum of the one that had stalled")
            errors_after = forward.pages(target.port, 10)
            expect(not errors_after, f"{len(errors_after)} of 10 failed after it: {errors_after[:1]}")
            return f"{served} of 10 were served"

    def unread(self):
        """An upload that the pod does not read, and ten others."""
        data = BLOCK * UNREAD
        with Target() as target, self.forward(target.port) as forward:
            with forward.connect(target.port, "deaf") as stream:
                sending = threading.Thread(target=stream.sendall, args=(data,))
                sending.start()
                time.sleep(1)
                errors = forward.pages(target.port, 10, patience=5)
                target.hears.set()
                sending.join()
                stream.shutdown(socket.SHUT_WR)
                equal(read_all(stream), hashlib.sha256(data).hexdigest().encode(), "the sum")
            expect(not errors, f"{len(errors)} of 10 failed beside it: {errors[:1]}")

    def unread_for_ever(self):
        """An upload that the pod never reads, and that is more than the server keeps."""
        with Target() as target, self.forward(target.port) as forward:
            with forward.connect(target.port, "deaf") as stream:
                def send():
                    try:
                        stream.sendall(BLOCK * TOO_MUCH)
                    except OSError:
                        pass

                sending = threading.Thread(target=send)
                sending.start()
                time.sleep(1)
                waited = forward.page(target.port, KUBECTL_GIVES_UP)
                errors = forward.pages(target.port, 10, patience=5)
                expect(not errors, f"{len(errors)} of 10 failed after it: {errors[:1]}")
                forward.lives()
                sending.join(PATIENCE)
                # The target still reads nothing, so only a look at its client shows that it is gone.
                alone = self.server.sockets_at_rest + 1
                gone = until(15, lambda: self.server.sockets() <= alone)
                expect(gone, "the connection to the target is left")
                target.hears.set()
            ends = [target.ends.get(timeout=PATIENCE) for _ in range(12)]
            # It was cut off, so it must not look complete.
            equal([word for word, error in ends if error], ["deaf"], "connections that were reset")
            return f"the next connection waited for {waited:.0f} s"

    def half_closed(self):
        with Target() as target, self.forward(target.port) as forward:
            with forward.connect(target.port, "late 10") as stream:
                stream.sendall(b"the question")
                stream.shutdown(socket.SHUT_WR)
                equal(read_all(stream), b"after the end of the question", "the answer")

    def closed_by_the_pod(self):
        with Target() as target, self.forward(target.port) as forward:
            slowest = 0.0
            for _ in range(5):
                with forward.connect(target.port, "bye") as stream:
                    started = time.monotonic()
                    equal(read_all(stream), b"bye", "the answer")
                    slowest = max(slowest, time.monotonic() - started)
            expect(slowest < SOON, f"the end came after {slowest:.2f} s")
            return f"{slowest * 1000:.0f} ms"

    def killed(self):
        """kill -9 of kubectl, with all kinds of connections open."""
        with Target() as target, self.forward(target.port) as forward:
            streams = [
                forward.connect(target.port, line, window=65536)
                for line in ["echo", "source 64", "sink", "late 1", "deaf"] * 3
            ]
            expect(until(10, lambda: target.open == len(streams)), f"{target.open} are open")
            forward.process.send_signal(signal.SIGKILL)
            target.hears.set()
            expect(target.rests(10), f"{target.open} connections to the target are left")
            expect(self.server.at_rest(10), f"{self.server.sockets()} sockets of the server are left")
            seen = [target.ends.get() for _ in streams]
            # An upload that was cut off is reset, so that it does not look complete.
            whole = [word for word, error in seen if word in ("sink", "late") and not error]
            expect(not whole, f"complete for the target: {whole}")
            for stream in streams:
                stream.close()

    def interrupted(self):
        with Target() as target, self.forward(target.port) as forward:
            forward.page(target.port)
            with forward.connect(target.port, "echo") as stream:
                stream.sendall(b"hi")
                equal(stream.recv(10), b"hi", "the echo")
                forward.process.send_signal(signal.SIGINT)
                forward.process.wait(10)
            expect(target.rests(), f"{target.open} connections to the target are left")
            expect(self.server.at_rest(5), f"{self.server.sockets()} sockets of the server are left")

    def checks(self):
        """Yields name and function; those that wait for kubectl or the clock come last."""
        yield "the manner", self.manner
        yield "50 connections at once", self.at_once
        yield f"{self.mib} MiB up", self.upload
        yield f"{self.mib} MiB down", self.download
        yield "an aborted download, and ten requests", self.aborted
        yield "a refused port beside a healthy connection", self.refused
        yield f"an unread upload of {UNREAD} MiB beside ten requests", self.unread
        yield "the pod closes first", self.closed_by_the_pod
        yield "interrupted", self.interrupted
        yield "killed: nothing is left", self.killed
        yield "a half close is answered after 10 s", self.half_closed
        yield "a stalled reader beside ten connections", self.stalled
        yield f"an unread upload of {TOO_MUCH} MiB is reset", self.unread_for_ever


def manners(kubectl):
    """Returns the manners of a kubectl: whether it tunnels, and the name of that."""
    tunnel = [(True, "tunnelled")] if kubectl.minor >= TUNNELS else []
    return [*tunnel, (False, "by POST")]


def drained(kubectl, serve, tunnel, home):
    """SIGTERM to the server: kubectl is told, and the server stops."""
    with serve("forward-drain") as server, Target() as target:
        with Forward(kubectl, server, home, [target.port], tunnel) as forward:
            with forward.connect(target.port, "echo") as stream:
                stream.sendall(b"hi")
                equal(stream.recv(10), b"hi", "the echo")
                server.process.terminate()
                # It ends by itself: with an error, up from 1.31 in these words.
                forward.process.wait(15)
                forward.reading.join(5)
            if kubectl.minor >= 31:
                expect(LOST in forward.told, f"not told: {short(forward.told)}")
            equal(server.process.wait(15), 0, "exit code of the server")


def rate(mib, started):
    seconds = time.monotonic() - started
    return f"{mib / seconds:.0f} MiB/s"
