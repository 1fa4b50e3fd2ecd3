"""An opaque proxy, like `kubectl proxy` and a kube-apiserver in front of a kubelet.

It copies bytes in two directions, and closes both connections at the first end of
either, whatever lies unread in them: what the kernel makes of that, a reset as a
rule, is the point. The sockets keep the kernel's own buffers: with small ones the
server learns too late that its client is slow, and nothing is lost.

Run as a program, because a client that shares its interpreter would slow it down:

    python3 splice.py HOST PORT
"""

import selectors
import socket
import subprocess
import sys
from pathlib import Path

from harness import Front, expect, main_guard, say

# As in Go's io.Copy.
BLOCK = 32 << 10


class Side:
    """One of the two connections of a session, and the data to be written to it."""

    def __init__(self, stream, selector):
        stream.setblocking(False)
        # As in Go, for every connection.
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket, self.selector = stream, selector
        self.other = None
        self.rest = b""
        self.events = 0

    def step(self, events):
        """Moves as much as possible; False at an end."""
        try:
            if events & selectors.EVENT_WRITE:
                self.write()
            if events & selectors.EVENT_READ:
                data = self.socket.recv(BLOCK)
                if not data:
                    return False
                self.other.rest = memoryview(data)
                self.other.write()
        except BlockingIOError:
            pass
        except OSError:
            return False
        self.watch()
        self.other.watch()
        return True

    def write(self):
        if self.rest:
            self.rest = self.rest[self.socket.send(self.rest) :]

    def watch(self):
        """Waits for the next step of this side, which reads no more than the other takes."""
        wanted = selectors.EVENT_WRITE if self.rest else 0
        wanted |= 0 if self.other.rest else selectors.EVENT_READ
        if wanted and self.events:
            self.selector.modify(self.socket, wanted, self)
        elif wanted:
            self.selector.register(self.socket, wanted, self)
        elif self.events:
            self.selector.unregister(self.socket)
        self.events = wanted

    def close(self):
        if self.events:
            self.selector.unregister(self.socket)
            self.events = 0
        self.socket.close()


def connected(listener, target, selector):
    """A client, and the connection to the server that is opened for it."""
    here, _ = listener.accept()
    try:
        there = socket.create_connection(target)
    except OSError:
        here.close()
        return
    one, other = Side(here, selector), Side(there, selector)
    one.other, other.other = other, one
    one.watch()
    other.watch()


def main():
    target = (sys.argv[1], int(sys.argv[2]))
    selector = selectors.DefaultSelector()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        selector.register(listener, selectors.EVENT_READ)
        say("%s:%d" % listener.getsockname())
        while True:
            for key, events in selector.select():
                if key.fileobj is listener:
                    connected(listener, target, selector)
                # One of this round may have ended with its other side.
                elif key.data.events and not key.data.step(events):
                    key.data.close()
                    key.data.other.close()


class Proxy(Front):
    """A server behind such a proxy. It may be one itself."""

    def __init__(self, server):
        super().__init__(server)
        self.program = None

    def __enter__(self):
        host, port = self.server.host_port
        self.program = subprocess.Popen(
            [sys.executable, "-B", Path(__file__), host, str(port)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )
        self.address = self.program.stdout.readline().decode().strip()
        expect(self.address, "the proxy does not listen")
        return self

    def __exit__(self, *_):
        self.program.kill()
        self.program.communicate()


if __name__ == "__main__":
    main_guard(main)
