"""`kubectl logs` of the pod's process, which prints `tick N` each second."""

import re
import signal

from attaching import HEARD_WITHIN, Heard
from harness import equal, expect, short, until

ONLY_TICKS = re.compile(rb"(tick \d+\n)*\Z")


def run(session, *flags):
    """Returns the numbers in a log that has ticks only, and checks that none is missing."""
    status, out, err = session.finish(session.words("logs", *flags, "demo"))
    equal((status, err), (0, b""), f"exit code and stderr (stdout {short(out)})")
    expect(ONLY_TICKS.match(out), f"not only ticks: {short(out)}")
    seen = [int(number) for number in re.findall(rb"\d+", out)]
    if seen:
        expect(seen == list(range(seen[0], seen[0] + len(seen))), f"out of order: {seen}")
    return seen


def at_least(session, ticks):
    seen = []

    def enough():
        seen[:] = run(session)
        return len(seen) >= ticks

    expect(until(HEARD_WITHIN, enough), f"no {ticks} ticks in the log: {seen}")
    return seen


def plain(session):
    """The log is complete from the first tick on, because nothing else was printed yet."""
    seen = at_least(session, 3)
    equal(seen[0], 1, "the first tick")
    return f"{len(seen)} ticks"


def tail(session):
    before = at_least(session, 3)
    seen = run(session, "--tail=3")
    equal(len(seen), 3, "lines")
    expect(seen[-1] >= before[-1], f"not the last ones: {seen}, after {before[-1]}")
    equal(run(session, "--tail=0"), [], "lines")


def follow(session):
    """Old ticks, then new ones; Ctrl-C leaves no connection behind."""
    server = session.server
    expect(server.at_rest(5), "connections of others are left")
    with Heard(session, "logs", "-f", "--tail=2", "demo") as heard:
        seen = heard.ticks(5)
        expect(server.sockets() > server.sockets_at_rest, "no connection is seen")
        heard.process.send_signal(signal.SIGINT)
        ended = until(20, lambda: heard.process.poll() is not None)
        expect(ended, "Ctrl-C did not end kubectl")
        # In less than two ticks: the write of the second would fail.
        expect(server.at_rest(1), "the connection is still open")
    return f"ticks {seen[0]} to {seen[-1]}"
