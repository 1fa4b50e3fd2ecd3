"""Shared by the client tests: the server under test, the report, marked processes.

Python's standard library only, so that a fresh machine needs no package.
"""

import functools
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "clients"
DEFAULT_SERVER = ROOT / "target" / "debug" / "pod-server"
EXEC_PATH = "/api/v1/namespaces/default/pods/demo/exec"

# Every process of a test's command carries this variable, which tells the processes that a
# dead session has left from all others on the machine.
MARK = "WSSTREAM_TEST_MARK"


class Failure(Exception):
    """A check that did not hold. The text says what was seen instead."""


def expect(condition, detail):
    if not condition:
        raise Failure(detail)


def equal(seen, wanted, what):
    if seen != wanted:
        raise Failure(f"{what}: {short(seen)}, wanted {short(wanted)}")


def short(value, limit=300):
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(value)} long)"


class Report:
    """Prints one line for each check, and one at the end."""

    def __init__(self, name, only=None):
        self.name = name
        self.only = re.compile(only) if only else None
        self.passed = 0
        self.failed = 0
        self.lock = threading.Lock()

    def check(self, name, function, informational=False):
        """Runs a check; its return value, if any, is added to its line.

        An informational one is told and counted on neither side.
        """
        if self.only and not self.only.search(name):
            return
        started = time.monotonic()
        try:
            note, good = function(), True
        except Exception as error:  # a check that breaks is a check that fails
            kind = "" if isinstance(error, Failure) else f"{type(error).__name__}: "
            note, good = f"{kind}{error}", False
        seconds = time.monotonic() - started
        with self.lock:
            if informational:
                word = "info, holds:" if good else "info, does not hold:"
            else:
                word = "ok" if good else "FAIL"
                self.passed += good
                self.failed += not good
            say(f"{word} {name} ({seconds:.1f} s){f': {note}' if note else ''}")

    def together(self, checks):
        """Runs checks that mostly wait at the same time. Each is given as arguments of `check`."""
        if checks:
            with ThreadPoolExecutor(len(checks)) as pool:
                list(pool.map(lambda one: self.check(*one), checks))

    def finish(self):
        """Prints the closing line, and returns the exit status. No check at all is a failure."""
        if self.passed + self.failed == 0:
            say(f"{self.name}: no check ran")
            self.failed += 1
        say(f"{self.name}: {self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


def say(line):
    print(line, flush=True)


def loud(line):
    """Prints a line that must not be overlooked in a long log."""
    bar = "!" * 78
    say(f"{bar}\n!! {line}\n{bar}")


class Reachable:
    """Something with a scheme and an address."""

    @property
    def url(self):
        return f"{self.scheme}://{self.address}"

    @property
    def host_port(self):
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)

    def at_rest(self, seconds):
        """Returns whether all connections of clients have ended within so many seconds."""
        return until(seconds, lambda: self.sockets() <= self.sockets_at_rest)


@functools.cache
def build_default_server():
    """Builds the server once, so that a single stage of .ci/run does not test an older one."""
    subprocess.run(
        ["cargo", "build", "--locked", "--quiet", "-p", "pod-server", "--target-dir", ROOT / "target"],
        cwd=ROOT, check=True,
    )


class Server(Reachable):
    """`pod-server` on a free port, with everything it prints in a file.

    `arguments` are those of the server beside the address; `access` is what every
    kubectl that talks to it is told beside the address. `log` filters its log. With `port` and
    `host`, it listens there.
    """

    # Seconds after which nothing is left of a session whose client was killed.
    gone_within = 2
    # The protocol of the sessions that reach it, if it is not that of the client.
    wire = None
    # More than the sockets on the way to a client that does not read can hold.
    flood_mib = 16

    def __init__(self, program, name, arguments=(), access=(), log=None, port=0, host="127.0.0.1"):
        self.program = Path(program)
        self.arguments = list(arguments)
        self.access = list(access)
        self.log_filter = log
        self.port = port
        self.host = host
        WORK.mkdir(parents=True, exist_ok=True)
        self.log_path = WORK / f"{name}.log"
        self.process = None
        self.scheme = None
        self.address = None
        self.sockets_at_rest = 0

    def __enter__(self):
        if self.program == DEFAULT_SERVER:
            build_default_server()
        if not self.program.exists():
            raise SystemExit(f"{self.program} is not there: cargo build --release -p pod-server")

        def ignore_signals():
            # As in the background job of a script. If a server passes this on to its
            # children, Ctrl-C does nothing in their terminals.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGQUIT, signal.SIG_IGN)

        environment = dict(os.environ, NO_COLOR="1")
        environment.setdefault("RUST_LOG", "info,pod_server=debug,tower_wsstream=debug")
        if self.log_filter:
            environment["RUST_LOG"] = self.log_filter
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [str(self.program), "--listen", f"{self.host}:{self.port}", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                preexec_fn=ignore_signals,
            )
        found = until(15, lambda: re.search(r"listening on (https?)://(\S+)", self.log()))
        if not found:
            self.__exit__()
            raise SystemExit(f"the server did not say where it listens:\n{self.log()}")
        self.scheme, self.address = found.groups()
        self.sockets_at_rest = self.sockets()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log(self, start=0):
        data = self.log_path.read_bytes()[start:]
        return re.sub(r"\x1b\[[0-9;]*m", "", data.decode("utf-8", "replace"))

    def log_size(self):
        return self.log_path.stat().st_size

    def sockets(self):
        """Counts the open sockets of the server."""
        folder = f"/proc/{self.process.pid}/fd"
        count = 0
        for entry in os.listdir(folder):
            try:
                count += os.readlink(f"{folder}/{entry}").startswith("socket:")
            except OSError:
                pass  # closed since
        return count

    def zombies(self):
        """Returns the children that have ended and that the server has not reaped."""
        return [
            pid
            for pid, fields in stats()
            if int(fields[1]) == self.process.pid and fields[0] == "Z"
        ]


class Front(Reachable):
    """A server with another address for its clients; everything else is that of the server."""

    def __init__(self, server):
        self.server = server

    def __getattr__(self, name):
        return getattr(self.server, name)


def until(seconds, function, step=0.02):
    """Asks again and again until the answer is truthy, and returns the last answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = function()
        if answer or time.monotonic() >= deadline:
            return answer
        time.sleep(step)


def stats():
    """Yields (pid, [state, parent, ...]) of every process."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            yield int(entry), text[text.rindex(")") + 2 :].split()


def new_mark():
    return uuid.uuid4().hex


def marked(mark):
    """Returns the processes whose environment carries this mark. A zombie has none."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                environment = Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue
            if wanted in environment.split(b"\0"):
                found.append(int(entry))
    return found


def describe(pids):
    names = []
    for pid in pids:
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            names.append(f"{pid} ({line.decode('utf-8', 'replace').strip()})")
        except OSError:
            pass
    return ", ".join(names)


def main_guard(main):
    """Runs `main`. Ctrl-C ends it without a traceback."""
    # A shell has its background jobs ignore it, which the clients would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
