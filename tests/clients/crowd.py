"""Many sessions that end in one moment: each is ended, and no other client waits for that."""

import http.client
import os
import resource
import signal
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import draining
import http2
from exchange import target, upgraded
from execs import sweep
from harness import MARK, Failure, Server, equal, expect, new_mark, until
from wsclient import (
    BINARY, BY_NAME, CLOSE, NORMAL, PATIENCE, TEXT, Client, Outcome, frame,
)

V5 = BY_NAME["v5.channel.k8s.io"]
# Sessions that are opened at a time.
HANDS = 8
# Streams on one connection of HTTP/2, as many as the server allows.
STREAMS = 100
# Seconds for a plain request beside the crowd: for every second one, and for all, because a
# busy machine delays some. Beside a thousand sessions one took 8 s when each command was
# looked for on its own.
BESIDE, SLOWEST_BESIDE = 0.05, 3
# CPU of the server for each session that ends: a thousand take less than a second.
CPU_A_SESSION = 0.001
# Seconds from the cut to the end of the last command. One that ignores SIGHUP has 0.8 s.
GONE = 10
# More descriptors than a session costs the server: a socket, two pipes, two of the process.
DESCRIPTORS = 6
TICK = 1 / os.sysconf("SC_CLK_TCK")


def checks(report, program, sessions):
    """Runs all; over HTTP/2 with twice as many sessions."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room = hard // DESCRIPTORS // 2
    sessions = min(sessions, room)
    report.check(f"{sessions} sessions cut at once", lambda: cut(program, sessions))
    report.check(f"{sessions} sessions drained at once", lambda: drained(program, sessions))
    report.check(
        f"{2 * sessions} sessions over HTTP/2 closed at once", lambda: closed(program, 2 * sessions)
    )
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def sleeping(mark):
    """A command without stdin, which only the end of its session ends."""
    command = ["env", f"{MARK}={mark}", "sleep", "1000"]
    return target(command, stdout=True, stderr=True)


def begin(server, sessions, path):
    """Opens so many sessions."""
    with ThreadPoolExecutor(HANDS) as pool:
        clients = list(pool.map(lambda _: Client(server, V5, path), range(sessions)))
    for client in clients:
        upgraded(client)
    return clients


def children(server):
    """Counts the children of the server, dead ones and the pod's process too."""
    count = 0
    for thread in Path(f"/proc/{server.process.pid}/task").iterdir():
        try:
            count += len((thread / "children").read_text().split())
        except OSError:
            pass  # the thread has ended, and the others have its children
    return count


def all_run(server, sessions):
    """Waits until the command of each session runs: it starts once its request is answered."""
    until(GONE, lambda: children(server) == sessions + 1)
    equal(children(server), sessions + 1, "children of the server")


def cpu(server):
    """Returns the seconds of CPU that the server itself has used."""
    text = Path(f"/proc/{server.process.pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) * TICK


class Asking:
    """Plain requests, one after the other, for as long as the block lasts."""

    def __init__(self, server):
        self.server = server
        self.seconds, self.wrong = [], []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.ask, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(PATIENCE)

    def ask(self):
        while not self.over.is_set():
            started = time.monotonic()
            try:
                connection = http.client.HTTPConnection(*self.server.host_port, timeout=PATIENCE)
                connection.request("GET", "/version")
                answer = connection.getresponse()
                answer.read()
                connection.close()
                if answer.status != 200:
                    self.wrong.append(answer.status)
            except OSError as error:
                self.wrong.append(repr(error))
            self.seconds.append(time.monotonic() - started)
            time.sleep(0.005)

    def judge(self):
        expect(not self.wrong, f"{len(self.wrong)} of {len(self.seconds)} failed: {self.wrong[:3]}")
        seconds = sorted(self.seconds)
        median, slowest = seconds[len(seconds) // 2], seconds[-1]
        note = (
            f"{len(seconds)} plain requests took {1000 * median:.0f} ms, "
            f"{1000 * slowest:.0f} ms at most"
        )
        expect(median < BESIDE and slowest < SLOWEST_BESIDE, note)
        return note


def gone(server, asking, started, before, sessions):
    """Waits until every command has ended and was reaped; returns what that took."""
    ended = until(GONE, lambda: children(server) <= 1)
    seconds, used = time.monotonic() - started, cpu(server) - before
    expect(ended, f"{children(server) - 1} commands left after {seconds:.1f} s")
    asking.over.set()
    limit = sessions * CPU_A_SESSION
    expect(used < limit, f"{used:.2f} s of CPU, and the limit is {limit:.2f} s")
    return f"ended after {seconds:.2f} s, {used:.2f} s of CPU, {asking.judge()}"


def cut(program, sessions):
    mark = new_mark()
    with Server(program, "raw-crowd-cut", log="info") as server:
        try:
            clients = begin(server, sessions, sleeping(mark))
            all_run(server, sessions)
            before = cpu(server)
            with Asking(server) as asking:
                for client in clients:
                    # A reset, as from a client that was killed.
                    client.socket.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                started = time.monotonic()
                for client in clients:
                    client.socket.close()
                return gone(server, asking, started, before, sessions)
        finally:
            sweep(mark)


def drained(program, sessions):
    """All are told in time, and then the server stops."""
    mark = new_mark()
    with Server(program, "raw-crowd-drained", log="info") as server:
        try:
            clients = begin(server, sessions, sleeping(mark))
            before = cpu(server)
            server.process.send_signal(signal.SIGTERM)
            started = time.monotonic()

            untold = []
            for client in clients:
                try:
                    draining.ended(V5, Outcome(V5, *until_close(client)))
                except (Failure, OSError) as error:
                    untold.append(error)
            heard, used = time.monotonic() - started, cpu(server) - before
            expect(not untold, f"{len(untold)} of {sessions} were not told: {untold[:1]}")
            status = server.process.wait(PATIENCE)
            seconds = time.monotonic() - started
            equal(status, 0, "exit status of the server")
            expect(seconds < 10, f"the server stopped after {seconds:.1f} s")
            count = f"drained.ended={sessions} drained.cut=0"
            expect(count in server.log(), f"no {count} in {server.log_path}")
        finally:
            sweep(mark)
    return f"told within {heard:.1f} s, stopped after {seconds:.1f} s, {used:.2f} s of CPU"


def until_close(client):
    """Reads like `Client.until_close`, and then leaves, so that the server need not wait."""
    messages = []
    while True:
        _, opcode, payload = client.frame()
        if opcode == CLOSE:
            client.send_raw(frame(CLOSE, NORMAL))
            client.socket.close()
            return messages, payload
        if opcode in (TEXT, BINARY):
            messages.append((opcode, payload))


def closed(program, sessions):
    """A Close on each stream of all connections."""
    mark = new_mark()
    with Server(program, "raw-crowd-http2", log="info") as server:
        connections = []
        try:
            streams = []
            while len(streams) < sessions:
                connections.append(http2.Connection(server))
                for _ in range(min(STREAMS, sessions - len(streams))):
                    streams.append(http2.Stream(connections[-1], V5, sleeping(mark)))
                    http2.upgraded(streams[-1])
            all_run(server, sessions)
            before = cpu(server)
            with Asking(server) as asking:
                started = time.monotonic()
                for stream in streams:
                    stream.send_raw(frame(CLOSE, NORMAL))
                return gone(server, asking, started, before, sessions)
        finally:
            for connection in connections:
                connection.socket.close()
            sweep(mark)
