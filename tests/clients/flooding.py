"""An exec whose stdin flows all the time, and whose client reads slowly or late."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from exchange import target, told, upgraded
from harness import Failure, equal, expect
from wsclient import (
    BY_NAME, ERROR, PATIENCE, READ_SIZE, STDIN, STDOUT, Client, Outcome, frame,
)

FLOOD = 16 << 10
# A subprotocol that ends stdin by a Close only, and one with half-close.
HALVES = [BY_NAME["v4.channel.k8s.io"], BY_NAME["v5.channel.k8s.io"]]


def in_turn(once, sessions, parallel):
    """Calls a function with v4 and v5 in turn; returns its results and a note."""
    def guarded(number):
        subprotocol = HALVES[number % 2]
        try:
            return once(subprotocol)
        except (Failure, OSError) as error:
            return Failure(f"session {number} ({subprotocol.name}): {error}")

    started = time.monotonic()
    with ThreadPoolExecutor(parallel) as pool:
        seen = list(pool.map(guarded, range(sessions)))
    seconds = time.monotonic() - started
    bad = [one for one in seen if isinstance(one, Failure)]
    expect(not bad, f"{len(bad)} of {sessions} failed: {'; '.join(map(str, bad[:3]))}")
    return seen, f"{sessions} sessions, {parallel} at a time, {seconds:.0f} s"


def all_of(outcome, wanted, code):
    """Checks every byte of stdout, and the end."""
    outcome.ready(STDOUT)
    outcome.only(STDOUT, ERROR)
    back = outcome.bytes(STDOUT)
    equal(len(back), len(wanted), "bytes")
    expect(back == wanted, "the bytes differ")
    told(outcome.subprotocol, outcome, code)


def slowly(rate):
    """A `Client.pace` of so many bytes a second at most; it does not make up for lost time."""
    due = 0.0

    def pace():
        # A read takes 16 KiB at most.
        nonlocal due
        now = time.monotonic()
        if now < due:
            time.sleep(due - now)
        due = max(now, due) + READ_SIZE / rate

    return pace


def flooded(server, subprotocol, command, pace, receive_buffer=None, rest=0.0, end=Client.end):
    """Returns the outcome, and whether the connection broke while stdin was sent.

    stdin flows until the Close has been read, with a rest between two messages;
    what follows the Close is for `end`.
    """
    url = target(command, stdin=True, stdout=True, stderr=True)
    with Client(server, subprotocol, url, receive_buffer=receive_buffer) as client:
        upgraded(client)
        message = frame(subprotocol.opcode(), subprotocol.message(STDIN, bytes(FLOOD)))
        done = threading.Event()
        broken = []

        def flood():
            try:
                while not done.wait(rest):
                    client.send_raw(message)
            except OSError as error:
                client.pongs.clear()
                if not done.is_set():
                    broken.append(error)

        client.pace = pace
        flooder = client.feed(flood)
        try:
            outcome = Outcome(subprotocol, *client.to_close())
            done.set()
            flooder.join(PATIENCE)
            # Nothing follows our Close.
            client.pongs.clear()
            end(client)
        finally:
            done.set()
            try:
                client.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            flooder.join(PATIENCE)
        return outcome, bool(broken)
