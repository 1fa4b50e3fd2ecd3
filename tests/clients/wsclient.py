"""A WebSocket client written by hand, which hides nothing."""

import base64
import collections
import hashlib
import os
import socket
import struct
import threading

from harness import Failure, equal, expect, short

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE_SIGNAL = 0, 1, 2, 3, 4, 255
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL = struct.pack(">H", 1000)
READ_SIZE = 16 << 10
# A silence of this length is a hang. The longest wait of the server in these scenarios is the
# grace of a second.
PATIENCE = 30
# A fixed key, because masking is not tested here, and one masked message can be sent again and
# again.
MASK = bytes([0x37, 0xFA, 0x21, 0x3D])


class Subprotocol:
    def __init__(self, name, base64=False, status=False, half_close=False):
        self.name = name
        self.base64 = base64
        self.status = status  # a JSON Status on the error channel, else plain text
        self.half_close = half_close

    @property
    def label(self):
        return self.name or "none"

    def message(self, channel, payload):
        if self.base64:
            return bytes([ord("0") + channel]) + base64.b64encode(payload)
        return bytes([channel]) + payload

    def opcode(self):
        return TEXT if self.base64 else BINARY


SUBPROTOCOLS = [
    Subprotocol(""),
    Subprotocol("channel.k8s.io"),
    Subprotocol("base64.channel.k8s.io", base64=True),
    Subprotocol("v2.channel.k8s.io"),
    Subprotocol("v3.channel.k8s.io"),
    Subprotocol("v4.channel.k8s.io", status=True),
    Subprotocol("v4.base64.channel.k8s.io", base64=True, status=True),
    Subprotocol("v5.channel.k8s.io", status=True, half_close=True),
]
BY_NAME = {one.name: one for one in SUBPROTOCOLS}


def mask(payload):
    key = MASK * (len(payload) // 4 + 1)
    number = int.from_bytes(payload, "big") ^ int.from_bytes(key[: len(payload)], "big")
    return number.to_bytes(len(payload), "big")


def frame(opcode, payload, fin=True):
    length = len(payload)
    if length < 126:
        head = struct.pack(">BB", fin << 7 | opcode, 0x80 | length)
    elif length < 1 << 16:
        head = struct.pack(">BBH", fin << 7 | opcode, 0x80 | 126, length)
    else:
        head = struct.pack(">BBQ", fin << 7 | opcode, 0x80 | 127, length)
    return head + MASK + mask(payload)


class Answer:
    """The head of an HTTP answer; header names in lower case, all lines kept."""

    def __init__(self, head):
        lines = head.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.status = int(lines[0].split(" ", 2)[1])
        self.headers = []
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers.append((name.strip().lower(), value.strip()))

    def all(self, name):
        return [value for key, value in self.headers if key == name]


class Client:
    """One WebSocket, written and read by hand."""

    def __init__(self, server, subprotocol, path, receive_buffer=None, offered=None, early=b"", headers=()):
        self.subprotocol = subprotocol
        self.socket = socket.socket()
        if receive_buffer:
            # Before the connect, because the window is negotiated in the handshake of TCP.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(server.host_port)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.lock = threading.Lock()
        self.closing = False
        self.pace = None
        # While a thread feeds stdin, that thread sends the Pongs, between two messages. The
        # reader must never wait for a socket that the server's backpressure has filled, or
        # the output would not be read.
        self.pongs = collections.deque()
        self.fed_beside = False
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {server.address}",
            "Connection: keep-alive, Upgrade",
            "Upgrade: WebSocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            # Browsers offer it, and no server of this protocol may accept it.
            "Sec-WebSocket-Extensions: permessage-deflate",
        ]
        names = [subprotocol.name] if offered is None and subprotocol.name else offered or []
        lines += [f"Sec-WebSocket-Protocol: {name}" for name in names]
        lines += headers
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + early)
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            expect(self._receive(), f"the connection ended in the answer: {short(self.buffer)}")
        self.answer = Answer(bytes(self.buffer[:end]))
        del self.buffer[: end + 4]
        accept = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        self.accept = base64.b64encode(accept).decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    # Out.

    def send_raw(self, data):
        with self.lock:
            self.socket.sendall(data)
            while self.pongs:
                self.socket.sendall(frame(PONG, self.pongs.popleft()))

    def feed(self, function):
        """Runs a function that sends in a thread of its own."""
        def run():
            try:
                function()
            finally:
                self.fed_beside = False
                if self.pongs:
                    try:
                        self.send_raw(b"")
                    except OSError:
                        pass  # the reader sees it too, and reports it

        self.fed_beside = True
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def send(self, channel, payload):
        self.send_raw(frame(self.subprotocol.opcode(), self.subprotocol.message(channel, payload)))

    def end_stdin(self, code=NORMAL):
        """Ends stdin in the way of this subprotocol."""
        if self.subprotocol.half_close:
            self.send_raw(frame(BINARY, bytes([CLOSE_SIGNAL, STDIN])))
        else:
            # Nothing may follow a Close, not even a Pong.
            self.closing = True
            self.send_raw(frame(CLOSE, code))

    # In.

    def _receive(self):
        if self.pace:
            self.pace()
        data = self.socket.recv(READ_SIZE)
        self.buffer += data
        return len(data)

    def _take(self, count):
        while len(self.buffer) < count:
            expect(
                self._receive(),
                f"the connection ended without a Close{' and inside a frame' if self.buffer else ''}",
            )
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def frame(self):
        """Returns the next frame: (fin, opcode, payload)."""
        first, second = self._take(2)
        expect(not first & 0x70, f"reserved bits in {first:#x}")
        expect(not second & 0x80, "a masked frame from a server")
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self._take(2))
            expect(length > 125, "a length that is not minimal")
        elif length == 127:
            (length,) = struct.unpack(">Q", self._take(8))
            expect(length > 65535, "a length that is not minimal")
        return bool(first & 0x80), first & 0x0F, self._take(length)

    def until_close(self):
        """Reads to the end like a client that follows the RFC; see `to_close`."""
        messages, close = self.to_close()
        self.end()
        return messages, close

    def to_close(self):
        """Reads to the Close: ([(opcode, message)], payload of the Close)."""
        messages, kind, parts = [], None, []
        while True:
            fin, opcode, payload = self.frame()
            if opcode == CLOSE:
                expect(kind is None, "a Close inside a message")
                return messages, payload
            if opcode == PING:
                if self.fed_beside:
                    self.pongs.append(payload)
                elif not self.closing:
                    self.send_raw(frame(PONG, payload))
            elif opcode == PONG:
                pass
            elif opcode in (TEXT, BINARY):
                expect(kind is None, "a new message inside a message")
                kind, parts = opcode, [payload]
            else:
                equal(opcode, CONTINUATION, "opcode")
                expect(kind is not None, "a continuation of nothing")
                parts.append(payload)
            if opcode in (TEXT, BINARY, CONTINUATION) and fin:
                messages.append((kind, b"".join(parts)))
                kind = None

    def end(self):
        """Answers the Close, if ours has not gone before, and reads to the FIN."""
        if not self.closing:
            self.closing = True
            self.send_raw(frame(CLOSE, NORMAL))
        try:
            while self._receive():
                pass
            expect(not self.buffer, f"bytes after the Close: {short(bytes(self.buffer))}")
        except ConnectionResetError:
            raise Failure("a reset instead of the FIN after the Close") from None
        except socket.timeout:
            raise Failure(f"no FIN within {PATIENCE} s of the Close") from None


class Outcome:
    """The messages of a session, channel by channel, in order."""

    def __init__(self, subprotocol, messages, close):
        self.subprotocol = subprotocol
        self.close = close
        self.records = []
        for opcode, message in messages:
            equal(opcode, subprotocol.opcode(), "opcode of a message")
            expect(message, "a message without a channel")
            if subprotocol.base64:
                text = message[1:]
                payload = base64.b64decode(text, validate=True)
                equal(base64.b64encode(payload), text, "base64 in canonical form")
                self.records.append((message[0] - ord("0"), payload))
            else:
                self.records.append((message[0], message[1:]))

    def ready(self, channel):
        """Checks that the first message is empty, on the lowest channel that the server writes."""
        expect(self.records, "no message at all")
        equal(self.records[0], (channel, b""), "the ready message")
        expect(
            all(payload for _, payload in self.records[1:]), "an empty message beside the first"
        )

    def only(self, *channels):
        others = {channel for channel, _ in self.records} - set(channels)
        expect(not others, f"messages on channels {sorted(others)}")

    def bytes(self, channel):
        return b"".join(payload for one, payload in self.records if one == channel)

    def last_words(self):
        """Returns the one message of the error channel, which is the last of all, or None."""
        told = [i for i, (one, payload) in enumerate(self.records) if one == ERROR and payload]
        if not told:
            return None
        equal(told, [len(self.records) - 1], f"places of the status in {len(self.records)}")
        return self.records[told[0]][1]
