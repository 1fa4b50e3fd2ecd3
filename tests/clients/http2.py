"""WebSockets over HTTP/2: extended CONNECT (RFC 8441), with TLS or without.

With `h2`, the HTTP/2 of many Python clients and servers; kept under target/.
"""

import os
import socket
import ssl
import tempfile
import time

import pypi
import secure
from exchange import target, told
from execs import sweep
from harness import (
    MARK, Failure, Server, describe, equal, expect, marked, new_mark, short, until,
)
from wsclient import (
    BINARY, BY_NAME, ERROR, PATIENCE, READ_SIZE, STDERR, STDIN, STDOUT, Answer, Client, Outcome,
    frame,
)

LIBRARY = "h2==4.3.0"
# RFC 9113, 7.
CANCEL = 8
V5 = BY_NAME["v5.channel.k8s.io"]
MIB = 1 << 20
PIECE = 32 << 10
# The most that a stalled session takes in a second, to keep clients alive that want to see it
# move.
TRICKLE = 128 << 10
# More than the windows of a stream and of a channel, a pipe, and some seconds of that.
MOST_UNREAD = MIB
# Through the session beside it: more than all windows of its own.
BESIDE = 4 * MIB


def checks(report, program):
    with tempfile.TemporaryDirectory() as folder:
        for label, name, identity in (
            ("HTTP/2", "raw-http2", None),
            ("HTTP/2 over TLS", "raw-http2-tls", secure.Identity(folder)),
        ):
            with Server(program, name, identity.arguments if identity else ()) as server:
                def check(what, function, server=server, identity=identity):
                    report.check(f"{label}: {what}", lambda: function(server, identity))

                check("exec over v5", execs)
                check("each subprotocol at once", all_at_once)
                check("nothing in common is a 403", refused)
                check("a stalled session leaves the others alone", stalled)
                check("a lost connection ends all its sessions", lost)


def library():
    """Returns the package, which is installed if it is missing."""
    pypi.need(LIBRARY)
    import h2.config
    import h2.connection
    import h2.events
    import h2.exceptions

    return h2


class Connection:
    """One connection of HTTP/2, and the data of its streams."""

    def __init__(self, server, identity=None):
        self.library = library()
        # Sends more, after each read, for a stream that always has more.
        self.pushing = None
        if identity:
            self.socket = secure.connect(server, identity, "h2")
            equal(self.socket.selected_alpn_protocol(), "h2", "ALPN")
        else:
            self.socket = socket.create_connection(server.host_port)
        self.socket.settimeout(PATIENCE)
        self.scheme, self.authority = server.scheme, server.address
        self.streams = {}
        config = self.library.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = self.library.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.flush()
        # RFC 8441, 3: not before the server has said that it knows it.
        while not self.h2.remote_settings.enable_connect_protocol:
            self.receive()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self):
        if data := self.h2.data_to_send():
            self.socket.sendall(data)

    def receive(self, patience=PATIENCE):
        """What the next read brings, to the streams that it is for."""
        self.socket.settimeout(patience)
        try:
            data = self.socket.recv(65536)
        except (TimeoutError, ssl.SSLWantReadError):
            expect(patience < PATIENCE, f"nothing came for {patience} s")
            return
        finally:
            self.socket.settimeout(PATIENCE)
        expect(data, "the connection ended")
        events = self.library.events
        try:
            received = self.h2.receive_data(data)
        except self.library.exceptions.ProtocolError as error:
            # For example a frame behind a GOAWAY, which is the end for this library.
            raise Failure(f"HTTP/2: {error}") from None
        for event in received:
            stream = self.streams.get(getattr(event, "stream_id", None))
            if isinstance(event, events.ResponseReceived):
                stream.answer = Head(event.headers)
            elif isinstance(event, events.DataReceived):
                stream.come += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, events.StreamEnded):
                stream.ended = True
            elif isinstance(event, events.StreamReset):
                stream.reset = event.error_code
            elif isinstance(event, events.ConnectionTerminated):
                raise Failure(f"GOAWAY: {event.error_code}, {short(event.additional_data)}")
        self.flush()
        if self.pushing:
            self.pushing()


class Head(Answer):
    """The head of an answer of HTTP/2."""

    def __init__(self, headers):
        self.line = "HTTP/2"
        self.headers = [(name, value) for name, value in headers if name != ":status"]
        self.status = int(dict(headers)[":status"])


class Stream(Client):
    """One WebSocket on a connection that others are on too."""

    def __init__(self, connection, subprotocol, path, offered=None):
        self.connection, self.subprotocol = connection, subprotocol
        self.buffer, self.come = bytearray(), bytearray()
        self.answer = self.reset = self.pace = None
        self.ended = self.closing = self.fed_beside = False
        self.id = connection.h2.get_next_available_stream_id()
        connection.streams[self.id] = self
        names = [subprotocol.name] if offered is None and subprotocol.name else offered or []
        connection.h2.send_headers(self.id, [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", connection.scheme),
            (":authority", connection.authority), (":path", path), ("sec-websocket-version", "13"),
            *[("sec-websocket-protocol", name) for name in names],
        ])
        connection.flush()
        while not self.answer:
            expect(self.reset is None, f"reset in place of an answer: {self.reset}")
            connection.receive()

    def __exit__(self, kind, *_):
        if kind:
            return  # the connection goes too, and may have gone before
        if self.ended:
            self.finish()
        elif self.reset is None:
            self.connection.h2.reset_stream(self.id, CANCEL)
            self.connection.flush()

    def finish(self):
        """Our end of the stream, as a FIN over TCP."""
        if self.reset is None:
            self.connection.h2.end_stream(self.id)
            self.connection.flush()

    def room(self):
        h2 = self.connection.h2
        return min(h2.local_flow_control_window(self.id), h2.max_outbound_frame_size)

    def send_some(self, data):
        """What there is room for; the rest."""
        room = self.room()
        if room > 0:
            self.connection.h2.send_data(self.id, bytes(data[:room]))
            self.connection.flush()
            data = data[room:]
        return data

    def send_raw(self, data):
        data = self.send_some(memoryview(data))
        while data:
            # Reads meanwhile, so that neither side waits for the other.
            self.connection.receive()
            data = self.send_some(data)

    def _receive(self):
        while not self.come and not self.ended:
            if self.reset is not None:
                raise ConnectionResetError(f"RST_STREAM: {self.reset}")
            self.connection.receive()
        data = self.come[:READ_SIZE]
        del self.come[:READ_SIZE]
        self.buffer += data
        return len(data)


def upgraded(stream):
    """The 200, header by header: nothing of HTTP/1.1's upgrade is in it."""
    answer, name = stream.answer, stream.subprotocol.name
    equal(answer.status, 200, "status")
    equal(answer.all("sec-websocket-protocol"), [name] if name else [], "Sec-WebSocket-Protocol")
    others = {name for name, _ in answer.headers} - {"sec-websocket-protocol", "date"}
    expect(not others, f"other headers in the 200: {others}")


def execs(server, identity):
    """stdin to its end, both outputs, the exit code and Close 1000; twice, one after the other."""
    command = ["sh", "-c", "cat; echo err >&2; exit 3"]
    path = target(command, stdin=True, stdout=True, stderr=True)
    with Connection(server, identity) as connection:
        for _ in range(2):
            with Stream(connection, V5, path) as stream:
                upgraded(stream)
                stream.send(STDIN, b"hello\n")
                stream.end_stdin()
                outcome = Outcome(V5, *stream.until_close())
            outcome.ready(STDOUT)
            outcome.only(STDOUT, STDERR, ERROR)
            equal(outcome.bytes(STDOUT), b"hello\n", "stdout")
            equal(outcome.bytes(STDERR), b"err\n", "stderr")
            told(V5, outcome, 3)


def all_at_once(server, identity):
    """Begun before the first is read: the words and the code of each are its own."""
    with Connection(server, identity) as connection:
        streams = [
            Stream(connection, one, target(["sh", "-c", f"echo {n}; exit {n}"], stdout=True))
            for n, one in enumerate(BY_NAME.values())
        ]
        for number, stream in enumerate(streams):
            with stream:
                upgraded(stream)
                outcome = Outcome(stream.subprotocol, *stream.until_close())
            equal(outcome.bytes(STDOUT), b"%d\n" % number, "stdout")
            told(stream.subprotocol, outcome, number)
    return f"{len(streams)} sessions"


def refused(server, identity):
    with Connection(server, identity) as connection:
        with Stream(connection, V5, target(["true"], stdout=True), ["x.k8s.io"]) as stream:
            equal(stream.answer.status, 403, "status")


def stalled(server, identity):
    """A session whose stdin is not read, until it takes no more; one beside it goes on."""
    mark = new_mark()
    asleep = target(["env", f"{MARK}={mark}", "sleep", "1000"], stdin=True, stdout=True)
    data = os.urandom(BESIDE)
    try:
        with Connection(server, identity) as connection:
            with Unread(connection, V5, asleep) as unread:
                upgraded(unread)
                unread.fill()
                taken = unread.taken
                started = time.monotonic()
                with Stream(connection, V5, target(["cat"], stdin=True, stdout=True)) as beside:
                    upgraded(beside)
                    for place in range(0, BESIDE, PIECE):
                        beside.send(STDIN, data[place : place + PIECE])
                    beside.end_stdin()
                    outcome = Outcome(V5, *beside.until_close())
                seconds = time.monotonic() - started
                expect(outcome.bytes(STDOUT) == data, "the bytes differ")
                told(V5, outcome, 0)
                expect(marked(mark), "the stalled session has ended")
                more = unread.taken - taken
                expect(more <= (seconds + 1) * TRICKLE, f"it was not stalled: {more} bytes more")
            # Left with a reset: it takes nothing with it, and leaves nothing behind.
            expect(until(2, lambda: not marked(mark)), f"left: {describe(marked(mark))}")
            with Stream(connection, V5, target(["true"], stdout=True)) as after:
                told(V5, Outcome(V5, *after.until_close()), 0)
    finally:
        sweep(mark)
    return f"{taken >> 10} KiB unread, {BESIDE // MIB} MiB beside it in {seconds:.1f} s"


class Unread(Stream):
    """A session whose stdin is not read, and whose client sends as much as there is room for."""

    taken, rest = 0, b""

    def push(self):
        while self.room() > 0:
            self.rest = memoryview(self.rest or frame(BINARY, V5.message(STDIN, bytes(PIECE))))
            left = self.send_some(self.rest)
            self.taken += len(self.rest) - len(left)
            self.rest = left

    def fill(self):
        """Until nearly nothing is taken any more; from then on, with all that comes."""
        self.push()
        self.connection.pushing = self.push
        before, since = 0, time.monotonic()
        while True:
            self.connection.receive(patience=0.1)
            expect(self.taken < MOST_UNREAD, f"{self.taken} bytes were taken that nobody reads")
            if time.monotonic() - since > 1:
                if self.taken - before <= TRICKLE:
                    return
                before, since = self.taken, time.monotonic()

    def __exit__(self, *error):
        self.connection.pushing = None
        super().__exit__(*error)


def lost(server, identity):
    """The commands of a lost client end."""
    mark = new_mark()
    command = ["env", f"{MARK}={mark}", "sleep", "1000"]
    try:
        with Connection(server, identity) as connection:
            for _ in range(3):
                upgraded(Stream(connection, V5, target(command, stdin=True, stdout=True)))
            expect(until(20, lambda: len(marked(mark)) == 3), "not all commands run")
        expect(until(3, lambda: not marked(mark)), f"left: {describe(marked(mark))}")
        expect(server.at_rest(5), "the connection is still open")
    finally:
        sweep(mark)
