#!/usr/bin/env python3
"""A raw WebSocket client against `pod-server`: every byte as the protocol says.

    cargo build -p pod-server
    tests/clients/raw.py subprotocols|logs|drain|http2|bearer [--server PATH]
    tests/clients/raw.py last-byte [--server PATH] [--sessions 500] [--parallel 25]
    tests/clients/raw.py crowd [--server PATH] [--crowd 300]
    tests/clients/raw.py followers [--server PATH]

Without a name all run but the last, which takes five minutes. A line a check; ends with `raw: P passed, F failed`.
"""

import argparse
import json
import os
import sys
import tempfile

sys.dont_write_bytecode = True
import bearer  # noqa: E402
import crowd  # noqa: E402
import draining  # noqa: E402
import http2  # noqa: E402
import reading  # noqa: E402
from exchange import refused, run, target, told, upgraded  # noqa: E402
from execs import sweep  # noqa: E402
from flooding import all_of, flooded, in_turn, slowly  # noqa: E402
from harness import (  # noqa: E402
    DEFAULT_SERVER, MARK, Report, Server, equal, expect, main_guard, marked, new_mark, short, until,
)
from wsclient import (  # noqa: E402
    BINARY, BY_NAME, CLOSE, CLOSE_SIGNAL, CONTINUATION, ERROR, NORMAL, PING, STDERR, STDIN, STDOUT,
    SUBPROTOCOLS, TEXT, Client, Outcome, frame,
)

MIB = 1 << 20
# Half of the grace for a service that does not end by itself.
AT_ONCE = 0.5
CANNOT_START = "Internal error occurred: error executing command in container: "

# The scenarios, each run over every subprotocol.


def exit_code(server, subprotocol):
    """stdin through cat to its end; stderr; a code that is not 0."""
    def talk(client):
        client.send(STDIN, b"hello\n")
        client.end_stdin()

    command = ["sh", "-c", "cat; echo err >&2; exit 3"]
    outcome = run(server, subprotocol, command, talk, stdin=True, stdout=True, stderr=True)
    outcome.ready(STDOUT)
    outcome.only(STDOUT, STDERR, ERROR)
    equal(outcome.bytes(STDOUT), b"hello\n", "stdout")
    equal(outcome.bytes(STDERR), b"err\n", "stderr")
    told(subprotocol, outcome, 3)


def success(server, subprotocol):
    """The client sends only a Pong, and the server ends the session by itself."""
    command = ["sh", "-c", "echo out; echo err >&2"]
    outcome = run(server, subprotocol, command, stdin=False, stdout=True, stderr=True)
    outcome.ready(STDOUT)
    outcome.only(STDOUT, STDERR, ERROR)
    equal(outcome.bytes(STDOUT), b"out\n", "stdout")
    equal(outcome.bytes(STDERR), b"err\n", "stderr")
    told(subprotocol, outcome, 0)


def killed_by_a_signal(server, subprotocol):
    outcome = run(server, subprotocol, ["sh", "-c", "kill -9 $$"], stdout=True, stderr=True)
    words = outcome.last_words()
    if subprotocol.status:
        status = json.loads(words)
        equal(status["reason"], "NonZeroExitCode", "reason")
        equal(status["details"]["causes"][0], {"reason": "ExitCode", "message": "137"}, "cause")
    else:
        expect(words and words.startswith(b"command terminated"), f"told {short(words)}")
        expect(b"137" in words, f"no 137 in {short(words)}")
    equal(outcome.close, NORMAL, "payload of the Close")


def cannot_start(server, subprotocol):
    outcome = run(server, subprotocol, ["no-such-command"], stdout=True, stderr=True)
    outcome.ready(STDOUT)
    outcome.only(STDOUT, ERROR)
    words = (outcome.last_words() or b"").decode()
    if subprotocol.status:
        status = json.loads(words)
        seen = (status["status"], status["reason"], status["code"])
        equal(seen, ("Failure", "InternalError", 500), "status")
        words = status["message"]
    expect(words.startswith(CANNOT_START), f"told {short(words)}")
    expect("no-such-command" in words, f"not named: {short(words)}")
    equal(outcome.close, NORMAL, "payload of the Close")


def lowest_channel(server, subprotocol):
    """The ready message comes on stderr without stdout, and on the error channel without both."""
    command = ["sh", "-c", "echo out; echo err >&2; exit 4"]
    outcome = run(server, subprotocol, command, stdout=False, stderr=True)
    outcome.ready(STDERR)
    outcome.only(STDERR, ERROR)
    equal(outcome.bytes(STDERR), b"err\n", "stderr")
    told(subprotocol, outcome, 4)

    outcome = run(server, subprotocol, command, lambda client: client.end_stdin(), stdin=True)
    outcome.ready(ERROR)
    outcome.only(ERROR)
    told(subprotocol, outcome, 4)


def odd_messages(server, subprotocol):
    """Messages that are legal and rare do not end stdin; the last of them come with the head."""
    other = BINARY if subprotocol.base64 else TEXT
    whole = subprotocol.message(STDIN, b"in-fragments ")

    def talk(client):
        kind = subprotocol.opcode()
        client.send(STDIN, b"")  # a channel and nothing more
        client.send_raw(frame(kind, b""))  # not even a channel
        client.send(9, b"for nobody")
        client.send(STDOUT, b"for a channel that only the server writes")
        if not subprotocol.half_close and not subprotocol.base64:
            client.send_raw(frame(BINARY, bytes([CLOSE_SIGNAL, STDIN])))  # an unknown channel
        # Cut where it hurts: behind the channel, inside four characters of base64,
        # with a Ping between; as text where binary is usual and the reverse.
        client.send_raw(frame(other, whole[:1], fin=False))
        client.send_raw(frame(CONTINUATION, whole[1:4], fin=False))
        client.send_raw(frame(PING, b"between"))
        client.send_raw(frame(CONTINUATION, b"", fin=False))
        client.send_raw(frame(CONTINUATION, whole[4:]))
        client.send(STDIN, b"whole")
        client.end_stdin(b"" if not subprotocol.half_close else NORMAL)

    path = target(["cat"], stdin=True, stdout=True, stderr=True)
    early = frame(subprotocol.opcode(), subprotocol.message(STDIN, b"early "))
    with Client(server, subprotocol, path, early=early) as client:
        upgraded(client)
        talk(client)
        outcome = Outcome(subprotocol, *client.until_close())
    equal(outcome.bytes(STDOUT), b"early in-fragments whole", "stdout")
    # A Close without a code may be answered by one without a code.
    if not subprotocol.half_close and not outcome.close:
        outcome.close = NORMAL
    told(subprotocol, outcome, 0)


def all_bytes(server, subprotocol):
    """Every value of a byte, in odd sizes, up and down, more than any window holds."""
    data = os.urandom(MIB + 4321)
    sizes = [1, 2, 3, 125, 126, 1000, 65535, 65536, 70001]

    def talk(client):
        def feed():
            place, turn = 0, 0
            while place < len(data):
                size = sizes[turn % len(sizes)]
                client.send(STDIN, data[place : place + size])
                place, turn = place + size, turn + 1

        # Beside the reading, or the backpressure of the server would block both.
        client.feed(feed)

    command = ["head", "-c", str(len(data))]
    outcome = run(server, subprotocol, command, talk, stdin=True, stdout=True, stderr=True)
    back = outcome.bytes(STDOUT)
    equal(len(back), len(data), "bytes")
    expect(back == data, "the bytes differ")
    told(subprotocol, outcome, 0)


def left(server, subprotocol):
    """Without stdin a Close means that the client leaves, and the command ends at once."""
    mark = new_mark()
    path = target(["env", f"{MARK}={mark}", "sleep", "1000"], stdout=True, stderr=True)
    try:
        with Client(server, subprotocol, path) as client:
            upgraded(client)
            expect(until(20, lambda: marked(mark)), "the command does not run")
            client.closing = True
            client.send_raw(frame(CLOSE, NORMAL))
            expect(until(AT_ONCE, lambda: not marked(mark)), f"still there after {AT_ONCE} s")
            outcome = Outcome(subprotocol, *client.until_close())
        equal(outcome.close, NORMAL, "payload of the Close")
    finally:
        sweep(mark)


SCENARIOS = [
    exit_code, success, killed_by_a_signal, cannot_start, lowest_channel, odd_messages, all_bytes,
    left,
]


def selected(server, offered, wanted):
    path = target(["true"], stdout=True)
    with Client(server, BY_NAME[wanted], path, offered=offered) as client:
        upgraded(client)
        told(BY_NAME[wanted], Outcome(BY_NAME[wanted], *client.until_close()), 0)


def kubelet(server, uid):
    """With the path and the query that an API server uses for its kubelet."""
    subprotocol = BY_NAME["v5.channel.k8s.io"]
    query = "command=sh&command=-c&command=cat%3B+exit+3&input=1&output=1&error=1"
    with Client(server, subprotocol, f"/exec/default/demo{uid}/main?{query}") as client:
        upgraded(client)
        client.send(STDIN, b"hello\n")
        client.end_stdin()
        outcome = Outcome(subprotocol, *client.until_close())
    equal(outcome.bytes(STDOUT), b"hello\n", "stdout")
    told(subprotocol, outcome, 3)
    refused(server, f"/exec/default/demo{uid}/other?{query}", [subprotocol.name], 404)


def subprotocols(report, server):
    for subprotocol in SUBPROTOCOLS:
        for scenario in SCENARIOS:
            name = f"{subprotocol.label}: {scenario.__name__.replace('_', ' ')}"
            report.check(name, lambda: scenario(server, subprotocol))
    report.check("no signal is ignored", lambda: signals(server))
    path, unknown = target(["true"], stdout=True), ["SPDY/3.1+portforward.k8s.io"]
    for label, uid in (("", ""), (" with a UID", "/00000000-0000-4000-8000-000000000001")):
        report.check(f"the kubelet's path{label}", lambda: kubelet(server, uid))
    report.check("nothing in common is a 403", lambda: refused(server, path, unknown, 403))
    names = ["x.k8s.io, v4.channel.k8s.io", "v5.channel.k8s.io"]
    report.check(
        "the client's order, over two lines", lambda: selected(server, names, names[0][10:])
    )


def signals(server):
    """The server itself was started with SIGINT and SIGQUIT ignored."""
    subprotocol = BY_NAME["v5.channel.k8s.io"]
    command = ["grep", "SigIgn", "/proc/self/status"]
    ignored = int(run(server, subprotocol, command, stdout=True).bytes(STDOUT).split()[1], 16)
    # Except 32 and 33, which belong to the C library.
    equal(ignored & ~(3 << 31), 0, "ignored signals")


# The last byte.

RECEIVE_BUFFER = 64 << 10
# Bytes a second of a client that reads slowly.
READ_RATE = MIB


def last_bytes(server, sessions, parallel):
    """The command has ended long before the client has read, and stdin still flows.

    Whether the flooding side saw the connection break is told, not judged: what
    counts is that every byte, the Status, the Close and the FIN came.
    """
    data = os.urandom(MIB)
    with tempfile.NamedTemporaryFile() as output:
        output.write(data)
        output.flush()

        def last_byte(subprotocol):
            outcome, broken = flooded(
                server, subprotocol, ["cat", output.name], slowly(READ_RATE), RECEIVE_BUFFER
            )
            all_of(outcome, data, 0)
            return broken

        seen, note = in_turn(last_byte, sessions, parallel)
    return f"{note}, {sum(seen)} broke while writing"


def on_a_server(name, checks):
    """Names checks that need one server, with its default options."""
    def run_them(report, options):
        with Server(options.server, f"raw-{name}") as server:
            checks(report, server, options)

    return name, run_them


def the_last_byte(report, server, options):
    report.check(
        "the last byte arrives", lambda: last_bytes(server, options.sessions, options.parallel)
    )


WHAT = dict([
    on_a_server("subprotocols", lambda report, server, _: subprotocols(report, server)),
    on_a_server("logs", lambda report, server, _: reading.checks(report, server)),
    # With servers of their own, which are stopped, speak TLS, or want a token.
    ("drain", lambda report, options: draining.checks(report, options.server)),
    ("http2", lambda report, options: http2.checks(report, options.server)),
    ("bearer", lambda report, options: bearer.checks(report, options.server)),
    ("crowd", lambda report, options: crowd.checks(report, options.server, options.crowd)),
    on_a_server("last-byte", the_last_byte),
])


def the_followers(report, options):
    report.check(
        "followers that never read are let go", lambda: reading.followers(options.server)
    )


# Only if asked for by name.
LONG = {"followers": the_followers}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["all", *WHAT, *LONG], default="all")
    parser.add_argument("--server", default=DEFAULT_SERVER, help="the pod-server to start")
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--parallel", type=int, default=25)
    parser.add_argument("--crowd", type=int, default=300, help="sessions that end in one moment")
    parser.add_argument("--only", help="only checks whose name matches this")
    options = parser.parse_args()
    report = Report("raw", options.only)
    for name, checks in {**WHAT, **LONG}.items():
        if options.what == name or options.what == "all" and name in WHAT:
            checks(report, options)
    return report.finish()


main_guard(main)
