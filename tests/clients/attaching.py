"""`kubectl attach` to a process that ran before and goes on afterwards.

The pod prints `tick N` each second and says every line again that it is given.
"""

import os
import re
import select
import signal
import subprocess
import threading
import time

from harness import Failure, equal, expect, new_mark, short, until
from session import MIB, PATIENCE, Sink, Watchdog

# With the end of the line, or the first digit of a number would pass for all of it.
TICK = re.compile(rb"^tick (\d+)\r?\n", re.M)
READ_SIZE = 64 << 10
# Three ticks, and room for a slow machine.
HEARD_WITHIN = 10
LINE = b"%09d " + b"." * 117 + b"\n"
# For the flood, from one end to the other; only a hang takes longer.
FLOOD_WITHIN = 60


class Heard:
    """A running kubectl, whose output is read as it comes."""

    def __init__(self, session, *words):
        self.process = session.begin(
            session.words(*words), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        # A buffer that grows in place: a copy of all for each read would make us the slow reader.
        self.heard = bytearray()
        self.watchdog = Watchdog(self.process, PATIENCE)

    def __enter__(self):
        self.watchdog.__enter__()
        return self

    def __exit__(self, *_):
        self.watchdog.__exit__()

    def hear(self, found, what, within=HEARD_WITHIN):
        """Returns the result of `found` for everything heard, once it is truthy."""
        deadline = time.monotonic() + within
        while not (answer := found(self.heard)):
            rest = deadline - time.monotonic()
            if rest <= 0:
                self.fail(f"{what} was not heard within {within} s")
            if select.select([self.process.stdout], [], [], rest)[0]:
                data = os.read(self.process.stdout.fileno(), READ_SIZE)
                if not data:
                    self.fail(f"kubectl ended before {what}")
                self.heard += data
        return answer

    def fail(self, words):
        # If it ended by itself, it may be about to print the reason.
        until(1, lambda: self.process.poll() is not None)
        self.process.kill()
        err = self.process.stderr.read()
        raise Failure(f"{words}: stdout {short(self.heard)}, stderr {short(err)}")

    def ticks(self, count):
        """Returns the first numbers heard, and checks that none is missing."""
        def enough(heard):
            seen = [int(number) for number in TICK.findall(heard)]
            return seen if len(seen) >= count else None

        seen = self.hear(enough, f"{count} ticks")
        first = seen[0]
        expect(seen == list(range(first, first + len(seen))), f"ticks out of order: {seen}")
        return seen


class Attached(Heard):
    """A running `kubectl attach`."""

    def __init__(self, session, *flags):
        session.execs += 1
        super().__init__(session, "attach", *flags, "demo")

    def say(self, line):
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def say_beside(self, data):
        """As `say`, in a thread, because it may take long."""
        def run():
            try:
                self.say(data)
            except OSError:
                pass  # it ended, and the check that waits for this line says more

        threading.Thread(target=run, daemon=True).start()

    def hears(self, line):
        self.hear(lambda heard: line in heard, f"the line {short(line)}")


def attach(session):
    """Ticks come, a line comes back, and the next client finds the same process."""
    line = f"hello {new_mark()}".encode()
    with Attached(session, "-i") as one:
        first = one.ticks(2)
        with Attached(session) as other:
            other.ticks(1)
            one.say(line + b"\n")
            one.hears(line)
            # Output goes to all clients.
            other.hears(line)
            seen = other.ticks(2)
            expect(seen[0] >= first[0], f"another process ticks: {first}, then {seen}")
        # The other was killed by SIGKILL, which changes nothing for this one.
        last = one.ticks(len(one.ticks(1)) + 2)
    with Attached(session) as again:
        seen = again.ticks(1)
        expect(seen[0] >= last[-1] - 1, f"it began anew: {last}, then {seen}")
    return f"ticks {first[0]} to {seen[0]}"


def stalled(session):
    """A client that does not read is told so, and no other loses a line or a tick."""
    lines = session.server.flood_mib * MIB // len(LINE % 0)
    flood = b"".join(LINE % number for number in range(lines))
    last = LINE % (lines - 1)
    with Attached(session) as asleep, Attached(session, "-i") as awake:
        asleep.ticks(1)
        awake.ticks(1)
        os.kill(asleep.process.pid, signal.SIGSTOP)
        started = time.monotonic()
        awake.say_beside(flood)
        recent = READ_SIZE + len(last)
        awake.hear(lambda heard: last in heard[-recent:], "the last line", FLOOD_WITHIN)
        seconds = time.monotonic() - started
        heard = awake.heard[: awake.heard.index(last) + len(last)]
        awake.ticks(1)
        expect(TICK.sub(b"", heard) == flood, f"other lines came back, {len(heard)} bytes")
        # Awake again, it reads the output that was sent to it, and then the reason of the end.
        err = Sink(asleep.process.stderr)
        os.kill(asleep.process.pid, signal.SIGCONT)
        out = asleep.process.stdout.read()
        status, words = asleep.process.wait(), err.all().strip().split(b"\n")[-1]
        expect(len(out) < len(flood), "it lost nothing, so that nothing was tried")
        equal(status, 1, f"exit code of one who lost output (stderr {short(words)})")
        expect(words.startswith(b"error: "), f"no error on stderr: {short(words)}")
        awake.ticks(len(TICK.findall(awake.heard)) + 2)
    return f"{lines} lines in {seconds:.1f} s; the sleeper got {len(out) // MIB} MiB, {words.decode()}"
