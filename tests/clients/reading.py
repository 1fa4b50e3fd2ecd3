"""The pod's log as messages of a WebSocket and by curl, compared with plain HTTP."""

import base64
import http.client
import os
import re
import socket
import subprocess
import time

import kubectls
from exchange import refused, upgraded
from harness import EXEC_PATH, Failure, Server, equal, expect, short, until
from wsclient import (
    BY_NAME, CLOSE, NORMAL, PATIENCE, STDIN, Client, Subprotocol, frame,
)

POD_PATH = EXEC_PATH.rpartition("/")[0]
LOG_PATH = f"{POD_PATH}/log"
READERS = [
    Subprotocol(""),
    Subprotocol("binary.k8s.io"),
    Subprotocol("base64.binary.k8s.io", base64=True),
]
# Several messages of random bytes, and less than the server keeps.
SAID = 100 << 10
LIMIT = 70001
LARGEST_MESSAGE = 32 << 10
# Followers that never read; the bytes that all of them are behind; the server's deadline.
FOLLOWERS = 100
MIB = 1 << 20
FLOOD = 16 * MIB
LINE = b"x" * 8191 + b"\n"
WRITE_TIMEOUT = 300
# At least two ticks.
MORE = 20
# Less than the time between two ticks, because a tick that goes out might take a waiting
# answer with it.
AT_ONCE = 0.5


def checks(report, server):
    report.check("log: the pod's process says what it is told", lambda: fill(server))
    for subprotocol in READERS:
        def check(name, function, subprotocol=subprotocol):
            report.check(f"log, {subprotocol.label}: {name}", lambda: function(server, subprotocol))

        check("byte for byte what plain HTTP gives", same)
        check("followed, a prefix of what plain HTTP gives", followed)
        check("a Close is answered at once", left)
    for name in ("channel.k8s.io", "v5.channel.k8s.io"):
        report.check(f"log, {name}: a 403", lambda: refused(server, LOG_PATH, [name], 403))
    for flags in ([], ["--http2-prior-knowledge"]):
        name = " ".join(["log, curl", *flags])
        report.check(name, lambda: curl(server, flags))


def fill(server):
    """Attaches and sends random bytes, whose echo makes the log more than ticks."""
    data = os.urandom(SAID - 1) + b"\n"
    path = f"{POD_PATH}/attach?container=main&stdin=true&stdout=false&stderr=true"
    with Client(server, BY_NAME["v5.channel.k8s.io"], path) as client:
        upgraded(client)
        client.send(STDIN, data)
        seen = until(PATIENCE, lambda: len(plain(server, "")) >= SAID)
        expect(seen, f"{len(plain(server, ''))} bytes in the log, of {SAID}")


def plain(server, query):
    connection = http.client.HTTPConnection(*server.host_port, timeout=PATIENCE)
    try:
        connection.request("GET", f"{LOG_PATH}?{query}")
        answer = connection.getresponse()
        equal(answer.status, 200, "status")
        return answer.read()
    finally:
        connection.close()


def streamed(server, subprotocol, query):
    """Returns all of a log that ends by itself."""
    with Client(server, subprotocol, f"{LOG_PATH}?{query}") as client:
        upgraded(client)
        messages, close = client.until_close()
    equal(close, NORMAL, "payload of the Close")
    return whole(subprotocol, messages)


def whole(subprotocol, messages):
    """Returns the data of the messages, of which the first alone is empty."""
    expect(messages, "no message at all")
    equal(messages[0], (subprotocol.opcode(), b""), "the first message")
    pieces = []
    for opcode, message in messages[1:]:
        equal(opcode, subprotocol.opcode(), "opcode of a message")
        piece = message
        if subprotocol.base64:
            piece = base64.b64decode(message, validate=True)
            equal(base64.b64encode(piece), message, "base64 in canonical form")
        expect(0 < len(piece) <= LARGEST_MESSAGE, f"{len(piece)} bytes in a message")
        pieces.append(piece)
    return b"".join(pieces)


def same(server, subprotocol):
    sizes = []
    for query in ("", "container=main&tailLines=2", f"limitBytes={LIMIT}"):
        for _ in range(10):
            before = plain(server, query)
            seen = streamed(server, subprotocol, query)
            # No tick has come between the three.
            if plain(server, query) == before:
                break
        else:
            raise Failure("the log never stood still")
        alike(seen, before)
        sizes.append(len(seen))
    expect(sizes[0] >= SAID and sizes[2] == LIMIT and sizes[1], f"{sizes} bytes")
    return f"{sizes} bytes"


def followed(server, subprotocol):
    """New output is sent at once, and the log ends at its limit like a complete one."""
    limit = len(plain(server, "")) + MORE
    seen = streamed(server, subprotocol, f"follow=true&limitBytes={limit}")
    equal(len(seen), limit, "bytes")
    alike(seen, plain(server, f"limitBytes={limit}"))


def alike(seen, wanted):
    equal(len(seen), len(wanted), "bytes")
    expect(seen == wanted, "the bytes differ")


def left(server, subprotocol):
    """A log ignores messages of its client, but not its Close, also between two ticks."""
    log_start = server.log_size()
    with Client(server, subprotocol, f"{LOG_PATH}?follow=true&tailLines=0") as client:
        upgraded(client)
        client.send_raw(frame(subprotocol.opcode(), b"%% no base64 either %%"))
        messages = [client.frame()[1:] for _ in range(2)]
        client.closing = True
        client.send_raw(frame(CLOSE, NORMAL))
        started = time.monotonic()
        more, close = client.until_close()
        seconds = time.monotonic() - started
    equal(close, NORMAL, "payload of the Close")
    expect(seconds < AT_ONCE, f"answered after {seconds:.2f} s")
    seen = whole(subprotocol, messages + more)
    expect(re.fullmatch(rb"(tick \d+\n)+", seen), f"not only ticks: {short(seen)}")
    expect(seen in plain(server, ""), f"never printed: {short(seen)}")
    gone = until(2, lambda: "log no longer followed" in server.log(log_start))
    expect(gone, "the log is still followed")
    return f"after {1000 * seconds:.0f} ms"


def followers(program):
    """Of a hundred and one followers of a growing log, those that never read are cut off."""
    with Server(program, "raw-followers", log="info") as server:
        deaf = []
        try:
            for _ in range(FOLLOWERS):
                deaf.append(socket.socket())
                deaf[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                deaf[-1].connect(server.host_port)
                head = f"GET {LOG_PATH}?follow=true HTTP/1.1\r\nHost: {server.address}\r\n\r\n"
                deaf[-1].sendall(head.encode())
            reader = http.client.HTTPConnection(*server.host_port, timeout=PATIENCE)
            reader.request("GET", f"{LOG_PATH}?follow=true&tailLines=0")
            following = reader.getresponse()
            started = time.monotonic()
            path = f"{POD_PATH}/attach?container=main&stdin=true&stdout=false"
            with Client(server, BY_NAME["v5.channel.k8s.io"], path) as client:
                upgraded(client)
                client.feed(lambda: [client.send(STDIN, LINE) for _ in range(FLOOD // len(LINE))])
                seen = 0
                while seen < FLOOD:
                    seen += len(following.read1(MIB))
            expect(server.sockets() > FOLLOWERS, f"{server.sockets()} sockets, of {FOLLOWERS}")
            one = server.sockets_at_rest + 2  # the socket of the reader, and its deadline
            while server.sockets() > one:
                seconds = time.monotonic() - started
                left = server.sockets() - one
                expect(seconds < 2 * WRITE_TIMEOUT, f"{left} left after {seconds:.0f} s")
                expect(following.read1(MIB), "the one that reads was let go too")
            seconds = time.monotonic() - started
            expect(seconds > WRITE_TIMEOUT / 2, f"let go after {seconds:.0f} s")
        finally:
            for client in deaf:
                client.close()
    return f"{FOLLOWERS} let go after {seconds:.0f} s"


def curl(server, flags):
    expect(kubectls.need("curl", "curl"), "no curl here")
    limit = len(plain(server, "")) + MORE
    version = "2" if flags else "1.1"
    for query in (f"limitBytes={LIMIT}", f"follow=true&limitBytes={limit}"):
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", str(PATIENCE)]
            + ["--write-out", "%{stderr}%{http_version} %{response_code}", *flags]
            + [f"{server.url}{LOG_PATH}?{query}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        seen = (done.returncode, done.stderr.decode())
        equal(seen, (0, f"{version} 200"), f"exit code, version and status of {query}")
        alike(done.stdout, plain(server, query.replace("follow=true&", "")))
