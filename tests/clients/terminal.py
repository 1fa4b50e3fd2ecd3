"""A person at a terminal, who types, looks, and resizes."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

from harness import expect, short, until


class Terminal:
    """A program on a pseudo-terminal of its own."""

    def __init__(self, arguments, environment, rows, columns):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            # Before the program starts, so that this is the first size that it sees.
            set_size(0, rows, columns)
            os.execve(arguments[0], arguments, environment)
        self.seen = ""
        self.status = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.wait(5)
        os.close(self.master)

    def type(self, data):
        os.write(self.master, data)

    def say(self, line):
        """Types a line. Split the expected output in it, so that the echo does not match."""
        self.seen = ""
        self.type(line.encode() + b"\r")

    def resize(self, rows, columns):
        # The kernel sends SIGWINCH to the program.
        set_size(self.master, rows, columns)

    def hear(self, pattern, seconds=10):
        """Returns the output since the last line typed, once the pattern is in it."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            rest = deadline - time.monotonic()
            expect(rest > 0, f"{pattern} was not printed: {short(self.seen)}")
            if select.select([self.master], [], [], rest)[0]:
                try:
                    data = os.read(self.master, 65536)
                except OSError:
                    data = b""
                expect(data, f"the terminal ended before {pattern}: {short(self.seen)}")
                self.seen += data.decode("utf-8", "replace")
        return self.seen

    def wait(self, seconds=10):
        def ended():
            if self.status is None:
                # It cannot end while its output is not read.
                while select.select([self.master], [], [], 0)[0]:
                    try:
                        if not os.read(self.master, 65536):
                            break
                    except OSError:
                        break
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.status = os.waitstatus_to_exitcode(status)
            return self.status is not None

        expect(until(seconds, ended), f"the program still runs after {seconds} s")
        return self.status


def set_size(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
