"""Sessions whose end an opaque proxy can cut off: slow and late readers, stdin that still flows.

Every byte, the Status and the Close must arrive, whatever stands between.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyclient
from execs import Execs
from flooding import FLOOD, HALVES, all_of, flooded, in_turn, slowly
from harness import Failure, equal, expect
from session import MIB, PATIENCE, random_file

# Bytes a second of a client that reads slowly.
READ_RATE = MIB
# The others begin this long after the command has ended.
LATE = 1.0
LATE_MIB = 1
# Between two pieces of stdin: it flows, and leaves the machine to the sessions.
REST = 0.02
# Scripts that exit with a code of their own while their stdin flows, by what they read.
UNREAD, FLOWING = "sleep 2; exit 7", "head -c 1000000 >/dev/null; exit 7"
CODE = 7


def add_options(parser):
    """Adds options for the amounts."""
    parser.add_argument("--sessions", type=int, default=500, help="that read late (500)")
    parser.add_argument("--parallel", type=int, default=50, help="of those, at a time (50)")
    parser.add_argument("--exits", type=int, default=20, help="commands that exit (20)")


def late():
    """A `Client.pace` that reads nothing for a while, and then as fast as possible."""
    rests = [LATE]

    def pace():
        if rests:
            time.sleep(rests.pop())

    return pace


def leave(client):
    """Answers the Close. The proxy decides how the connection ends then."""
    try:
        client.end()
    except (Failure, OSError):
        pass


# Each of these yields arguments of `Report.check`.


def raw_checks(front, material, options):
    def reads(subprotocol, path, pace):
        outcome, _ = flooded(
            front, subprotocol, ["sh", "-c", f"cat {path}; exit {CODE}"], pace,
            rest=REST, end=leave,
        )
        all_of(outcome, Path(path).read_bytes(), CODE)

    def writes(subprotocol, script):
        outcome, _ = flooded(front, subprotocol, ["sh", "-c", script], None, end=leave)
        all_of(outcome, b"", CODE)

    for one in HALVES:
        label = one.name.partition(".")[0]
        yield f"raw {label}: slow reader", lambda one=one: reads(
            one, material.slow, slowly(READ_RATE)
        )
        yield f"raw {label}: stdin never read", lambda one=one: writes(one, UNREAD)
    yield "raw: exit while stdin flows", lambda: in_turn(
        lambda one: writes(one, FLOWING), options.exits, 4
    )[1]
    yield "raw: sessions that read late", lambda: in_turn(
        lambda one: reads(one, material.late, late()), options.sessions, options.parallel
    )[1]


def kubectl_checks(front, kubectl, material, options):
    session = Execs(kubectl, front, material.home)
    # 1.29 gives up on a socket that stays full.
    info = session.stalls_are_fatal or session.is_translated
    label = f"kubectl {kubectl.name}"
    yield f"{label}: slow reader", lambda: session.slow_reader(material.slow), session.is_translated
    yield f"{label}: stdin never read", session.endless_stdin, info
    yield f"{label}: exit while stdin flows", lambda: times(
        options.exits, lambda: session.endless_stdin(FLOWING)
    ), info


def python_checks(front, material, options):
    def slow_reader():
        command = ["sh", "-c", f"cat {material.slow}; exit {CODE}"]
        out, code = pyclient.read_all(pyclient.begin(front, command), READ_RATE)
        wanted = material.slow.read_bytes()
        equal((len(out), code), (len(wanted), CODE), "bytes and exit code")
        expect(out == wanted, "the bytes differ")

    def writes(script):
        session = pyclient.begin(front, ["sh", "-c", script], stdin=True)
        equal(pyclient.write_always(session, bytes(FLOOD), PATIENCE), CODE, "exit code")

    yield "Python: slow reader", slow_reader
    yield "Python: stdin never read", lambda: writes(UNREAD)
    yield "Python: exit while stdin flows", lambda: times(options.exits, lambda: writes(FLOWING))


def times(count, once):
    """Runs `once` often, and reports how often it failed, with the first failure."""
    def guarded(_):
        try:
            once()
        except Exception as error:  # a client that fails was cut off
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(2) as pool:
        bad = [error for error in pool.map(guarded, range(count)) if error]
    expect(not bad, f"{len(bad)} of {count} failed, the first: {bad[:1]}")
    return f"{count} times"


class Material:
    """The files to read, and a home for the kubectls."""

    def __init__(self, folder, slow_mib):
        self.home = folder
        self.slow, self.late = Path(folder) / "slow", Path(folder) / "late"
        random_file(self.slow, slow_mib)
        random_file(self.late, LATE_MIB)


class Plan:
    """Arguments of `Report.check`, apart for checks that mostly wait and for checks that work."""

    def __init__(self):
        self.waiting, self.working = [], []

    def add(self, label, checks):
        for name, *rest in checks:
            waits = "slow reader" in name or "never read" in name
            (self.waiting if waits else self.working).append((f"{label}, {name}", *rest))

    def run(self, report):
        report.together(self.waiting)
        for one in self.working:
            report.check(*one)
