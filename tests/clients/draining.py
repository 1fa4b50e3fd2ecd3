"""SIGTERM to a server with sessions: all are told, and then it stops."""

import http.client
import json
import signal
import socket
import subprocess
import tempfile
import time

import http2
import secure
from exchange import target, upgraded
from execs import Execs, sweep
from harness import (
    EXEC_PATH, MARK, Failure, Server, describe, equal, expect, marked, new_mark, short, until,
)
from session import PATIENCE, Sink, Watchdog
from wsclient import BY_NAME, ERROR, NORMAL, STDOUT, Client, Outcome

POD_PATH = EXEC_PATH.rpartition("/")[0]
LIVING = [
    "v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io",
    "base64.channel.k8s.io",
]
TOLD = "the server is shutting down: connect again to continue elsewhere"
# The server's own deadline is 10 s; with clients that listen it needs the grace of
# a second for commands that do not end by themselves.
WELL_BEFORE = 5


def sleeping(mark):
    return ["env", f"{MARK}={mark}", "sleep", "1000"]


def checks(report, program):
    report.together([
        ("drain: all are told, and the server stops", lambda: stopped(program)),
        ("drain: the same, over HTTP/2 and TLS", lambda: stopped_http2(program)),
        ("drain: a client that does not listen is cut at the deadline", lambda: deaf(program)),
        ("drain: an attach is no success either", lambda: attached(program)),
    ])


def stopped(program):
    mark = new_mark()
    with Server(program, "raw-drain") as server:
        clients = [
            Client(server, BY_NAME[name], target(sleeping(mark), stdout=True, stderr=True))
            for name in LIVING
        ]
        # Opened before, so that the server can be asked when it does not listen any more.
        kept = http.client.HTTPConnection(*server.host_port, timeout=PATIENCE)
        try:
            for client in clients:
                upgraded(client)
            kept.request("GET", "/version")
            kept.getresponse().read()
            started_all = until(20, lambda: len(marked(mark)) == len(clients))
            expect(started_all, f"only {len(marked(mark))} commands run")
            server.process.send_signal(signal.SIGTERM)
            started = time.monotonic()
            for client in clients:
                ended(client.subprotocol, Outcome(client.subprotocol, *client.to_close()))
            heard = time.monotonic() - started
            expect(until(2, lambda: not marked(mark)), f"left: {describe(marked(mark))}")
            # No client has answered its Close: the server still waits for them.
            expect(server.process.poll() is None, "the server did not wait for its clients")
            nobody_enters(server, kept)
            for client in clients:
                client.end()
                client.socket.close()
            status = server.process.wait(PATIENCE)
            seconds = time.monotonic() - started
        finally:
            for client in clients:
                client.socket.close()
            kept.close()
            sweep(mark)
        equal(status, 0, "exit status of the server")
        expect(seconds < WELL_BEFORE, f"the server stopped after {seconds:.1f} s")
        count = f"drained.ended={len(clients)} drained.cut=0"
        expect(count in server.log(), f"no {count} in {server.log_path}")
    return f"told after {heard:.1f} s, stopped after {seconds:.1f} s"


def ended(subprotocol, outcome):
    """Checks that the reason was told, and that the Close is a 1000."""
    outcome.ready(STDOUT)
    outcome.only(STDOUT, ERROR)
    words = (outcome.last_words() or b"").decode()
    if subprotocol.status:
        status = json.loads(words)
        seen = (status["status"], status["reason"], status["code"])
        equal(seen, ("Failure", "ServiceUnavailable", 503), f"Status on {subprotocol.name}")
        words = status["message"]
    equal(words, TOLD, f"told on {subprotocol.name}")
    equal(outcome.close, NORMAL, f"payload of the Close on {subprotocol.name}")


def nobody_enters(server, kept):
    """An open connection gets an answer, and no new one is accepted."""
    kept.request("GET", target(["true"], stdout=True), headers={
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Protocol": "v5.channel.k8s.io",
    })
    answer = kept.getresponse()
    status = json.loads(answer.read())
    equal((answer.status, status["reason"]), (503, "ServiceUnavailable"), "a handshake")
    expect(answer.getheader("Retry-After"), "a 503 without Retry-After")
    try:
        socket.create_connection(server.host_port, PATIENCE).close()
    except ConnectionRefusedError:
        return
    raise Failure("the server takes connections")


def stopped_http2(program):
    """All sessions are on one connection, which outlives the last words of each."""
    mark = new_mark()
    path = target(sleeping(mark), stdout=True, stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        identity = secure.Identity(folder)
        with Server(program, "raw-drain-http2", identity.arguments) as server:
            with http2.Connection(server, identity) as connection:
                streams = [http2.Stream(connection, BY_NAME[name], path) for name in LIVING]
                for stream in streams:
                    http2.upgraded(stream)
                started_all = until(20, lambda: len(marked(mark)) == len(streams))
                expect(started_all, f"only {len(marked(mark))} commands run")
                server.process.send_signal(signal.SIGTERM)
                started = time.monotonic()
                for stream in streams:
                    ended(stream.subprotocol, Outcome(stream.subprotocol, *stream.to_close()))
                late = http2.Stream(connection, BY_NAME[LIVING[0]], path)
                equal(late.answer.status, 503, "status of a handshake")
                expect(late.answer.all("retry-after"), "a 503 without Retry-After")
                for stream in streams:
                    stream.end()
                    stream.finish()
                status = server.process.wait(PATIENCE)
                seconds = time.monotonic() - started
            equal(status, 0, "exit status of the server")
            expect(seconds < WELL_BEFORE, f"the server stopped after {seconds:.1f} s")
            expect(not marked(mark), f"left: {describe(marked(mark))}")
            count = f"drained.ended={len(streams)} drained.cut=0"
            expect(count in server.log(), f"no {count} in {server.log_path}")
    return f"stopped after {seconds:.1f} s"


def deaf(program):
    """A client that holds its socket open forever costs the deadline, and no more."""
    mark = new_mark()
    with Server(program, "raw-drain-deaf") as server:
        path = target(sleeping(mark), stdout=True)
        with Client(server, BY_NAME["v5.channel.k8s.io"], path) as client:
            upgraded(client)
            expect(until(20, lambda: marked(mark)), "the command does not run")
            server.process.send_signal(signal.SIGTERM)
            started = time.monotonic()
            status = server.process.wait(PATIENCE)
            seconds = time.monotonic() - started
        equal(status, 0, "exit status of the server")
        expect(9 < seconds < 10 + WELL_BEFORE, f"the server stopped after {seconds:.1f} s")
        expect(not marked(mark), f"left: {describe(marked(mark))}")
        expect("drained.cut=1" in server.log(), f"no drained.cut=1 in {server.log_path}")
    return f"stopped after {seconds:.1f} s"


def attached(program):
    """A client that was told of a success would take that for the end of the pod's process."""
    def attach(subprotocol, stream):
        client = Client(server, subprotocol, f"{POD_PATH}/attach?container=main&{stream}=true")
        upgraded(client)
        return client

    def failed(client, reason, code):
        with client:
            outcome = Outcome(client.subprotocol, *client.until_close())
        status = json.loads(outcome.last_words() or b"{}")
        seen = (status.get("status"), status.get("reason"), status.get("code"))
        equal(seen, ("Failure", reason, code), f"Status on {client.subprotocol.name}")
        equal(outcome.close, NORMAL, f"payload of the Close on {client.subprotocol.name}")

    with Server(program, "raw-drain-attach", ["--idle-timeout", "1s"]) as server:
        subprotocols = [BY_NAME[name] for name in LIVING if BY_NAME[name].status]
        # A client that reads the ticks is never idle.
        for client in [attach(subprotocol, "stdin") for subprotocol in subprotocols]:
            failed(client, "Timeout", 504)
        clients = [attach(subprotocol, "stdout") for subprotocol in subprotocols]
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            failed(client, "ServiceUnavailable", 503)


def kubectl_is_told(kubectl, serve):
    """A kubectl outlives its server, and prints the reason."""
    mark = new_mark()
    with serve(f"drain-{kubectl.name}") as server, tempfile.TemporaryDirectory() as home:
        process = Execs(kubectl, server, home).start(
            sleeping(mark), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        out, err = Sink(process.stdout), Sink(process.stderr)
        with Watchdog(process, PATIENCE):
            expect(until(PATIENCE / 2, lambda: marked(mark)), "the command does not run")
            server.process.send_signal(signal.SIGTERM)
            started = time.monotonic()
            status = process.wait()
            told = time.monotonic() - started
            stopped = server.process.wait(PATIENCE)
            seconds = time.monotonic() - started
            words = err.all().decode("utf-8", "replace").strip()
        equal((status, out.all()), (1, b""), f"exit code and stdout (stderr {short(words)})")
        expect(TOLD in words, f"not told on stderr: {short(words)}")
        equal(stopped, 0, "exit status of the server")
        expect(seconds < WELL_BEFORE, f"the server stopped after {seconds:.1f} s")
        expect(until(2, lambda: not marked(mark)), f"left: {describe(marked(mark))}")
    return f"after {told:.1f} s: {words.splitlines()[-1]}"
