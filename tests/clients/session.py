"""One kubectl against one server, and the helpers of its checks."""

import hashlib
import os
import subprocess
import threading

import kubectls
from harness import Failure, expect, short
from terminal import Terminal

MIB = 1 << 20
# Longer than any command here takes, unless it hangs.
PATIENCE = 60
# Over WebSocket, kubectl 1.29 gives up once its socket stays full for seconds. The server cannot
# prevent that, so checks that stall its stdin are reported, and not counted.
STALLS_ARE_FATAL_UP_TO = 29
EARLY_MESSAGE = b"Unknown stream id 1, discarding message"


class Session:
    def __init__(self, kubectl, server, home):
        self.kubectl = kubectl
        self.server = server
        self.environment = kubectl.environment(home)
        self.execs = 0

    @property
    def stalls_are_fatal(self):
        kubectl = self.kubectl
        return kubectl.wire == kubectls.WEBSOCKET and kubectl.minor <= STALLS_ARE_FATAL_UP_TO

    @property
    def wire(self):
        """The protocol in which a session of this kubectl reaches the server."""
        return self.server.wire or self.kubectl.wire

    @property
    def is_translated(self):
        """Whether an API server ends the WebSocket of this kubectl itself.

        It closes that connection with data unread, which destroys output that is on the way to
        the client. It never looks at a client whose stdin it cannot pass on.
        """
        return self.wire != self.kubectl.wire

    def words(self, *words):
        """Returns the command line of this kubectl, with these words behind the server's address."""
        return [
            str(self.kubectl.path), "--kubeconfig", "/dev/null", "--server", self.server.url,
            *self.server.access, *words,
        ]

    def arguments(self, command, flags=(), verbose=()):
        self.execs += 1
        return self.words(*verbose, "exec", *flags, "demo", "--", *command)

    def run(self, command, flags=(), stdin=None, verbose=()):
        """Runs a short command, and returns (exit code, stdout, stderr)."""
        return self.finish(self.arguments(command, flags, verbose), stdin)

    def finish(self, arguments, stdin=None, patience=PATIENCE):
        source = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        try:
            done = subprocess.run(
                arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=self.environment, timeout=patience, **source,
            )
        except subprocess.TimeoutExpired as error:
            raise Failure(
                f"still running after {patience} s; stdout {short(error.stdout)}, "
                f"stderr {short(error.stderr)}"
            ) from None
        return done.returncode, done.stdout, self.words_of(done.stderr)

    def words_of(self, err):
        """Returns the stderr of a kubectl without what only its API server is the reason for.

        An API server that translates begins with an empty message, before the kubelet is asked.
        kubectl up to 1.33 complains if it has not made its streams by then; it loses nothing.
        """
        if self.is_translated:
            lines = err.splitlines(keepends=True)
            err = b"".join(line for line in lines if EARLY_MESSAGE not in line)
        return err

    def start(self, command, flags=(), **pipes):
        return self.begin(self.arguments(command, flags), **pipes)

    def begin(self, arguments, **pipes):
        return subprocess.Popen(arguments, env=self.environment, **pipes)

    def on_a_terminal(self, command):
        environment = dict(self.environment, TERM="xterm")
        return Terminal(self.arguments(command, ["-i", "-t"]), environment, 33, 101)


class Watchdog:
    """Kills a process after a time, so that a hang becomes a failure."""

    def __init__(self, process, seconds):
        self.process = process
        self.timer = threading.Timer(seconds, process.kill)

    def __enter__(self):
        self.timer.start()
        return self

    def __exit__(self, *_):
        self.timer.cancel()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


class Sink(threading.Thread):
    """Reads a pipe to its end beside the check, so that nothing waits for it."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe = pipe
        self.data = b""
        self.start()

    def run(self):
        self.data = self.pipe.read()

    def all(self):
        self.join(5)
        expect(not self.is_alive(), "the pipe has no end")
        return self.data


def random_file(path, mib):
    """Writes random bytes to a file, and returns their SHA-256."""
    digest = hashlib.sha256()
    with open(path, "wb") as out:
        for _ in range(mib):
            block = os.urandom(MIB)
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def hash_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as data:
        while block := data.read(MIB):
            digest.update(block)
    return digest.hexdigest()
