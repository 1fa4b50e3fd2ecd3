"""`kubectl attach` to a process that was there before and goes on afterwards.

The pod prints `tick N` each second and says every line again that it is given.
"""

import os
import re
import select
import subprocess
import time

from harness import Failure, expect, new_mark, short, until
from session import PATIENCE, Watchdog

TICK = re.compile(rb"^tick (\d+)\r?$", re.M)
# Three ticks, and room for a slow machine.
HEARD_WITHIN = 10


class Attached:
    """A running `kubectl attach`, listened to as it goes."""

    def __init__(self, session, *flags):
        session.execs += 1
        self.process = session.begin(
            session.words("attach", *flags, "demo"), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        self.heard = b""
        self.watchdog = Watchdog(self.process, PATIENCE)

    def __enter__(self):
        self.watchdog.__enter__()
        return self

    def __exit__(self, *_):
        self.watchdog.__exit__()

    def hear(self, found, what):
        """What `found` makes of everything heard, once it is truthy."""
        deadline = time.monotonic() + HEARD_WITHIN
        while not (answer := found(self.heard)):
            rest = deadline - time.monotonic()
            if rest <= 0:
                self.fail(f"{what} was not heard within {HEARD_WITHIN} s")
            if select.select([self.process.stdout], [], [], rest)[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    self.fail(f"attach ended before {what}")
                self.heard += data
        return answer

    def fail(self, words):
        # If it ended by itself, it may still be about to say why.
        until(1, lambda: self.process.poll() is not None)
        self.process.kill()
        err = self.process.stderr.read()
        raise Failure(f"{words}: stdout {short(self.heard)}, stderr {short(err)}")

    def ticks(self, count):
        """The first numbers heard, one after the other."""
        def enough(heard):
            seen = [int(number) for number in TICK.findall(heard)]
            return seen if len(seen) >= count else None

        seen = self.hear(enough, f"{count} ticks")
        first = seen[0]
        expect(seen == list(range(first, first + len(seen))), f"ticks out of order: {seen}")
        return seen

    def say(self, line):
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def hears(self, line):
        self.hear(lambda heard: line in heard, f"the line {short(line)}")


def attach(session):
    """Ticks come, a line comes back, and the next attacher finds the same process."""
    line = f"hello {new_mark()}".encode()
    with Attached(session, "-i") as one:
        first = one.ticks(2)
        with Attached(session) as other:
            other.ticks(1)
            one.say(line + b"\n")
            one.hears(line)
            # Output is everybody's.
            other.hears(line)
            seen = other.ticks(2)
            expect(seen[0] >= first[0], f"another process ticks: {first}, then {seen}")
        # The other is gone, by SIGKILL: it takes nothing with it.
        last = one.ticks(len(one.ticks(1)) + 2)
    with Attached(session) as again:
        seen = again.ticks(1)
        expect(seen[0] >= last[-1] - 1, f"it began anew: {last}, then {seen}")
    return f"ticks {first[0]} to {seen[0]}"
