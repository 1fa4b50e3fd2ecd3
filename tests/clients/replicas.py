"""Two servers behind a balancer, one of them drained and started again while kubectls run."""

import itertools
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import balancers
from draining import TOLD
from exchange import target, told
from harness import MARK, Failure, Server, equal, expect, marked, new_mark, short, until
from kubectls import SPDY, WEBSOCKET
from session import PATIENCE, Session, Sink
from wsclient import BY_NAME, Client, Outcome

CODE = 7
# Seconds for which a server that is stopped lets its sessions finish. Where that is too short for
# the machine, all is done again with the next.
FINISH = (4, 16, 40)
# New sessions while a server drains, one after the other.
NEW = 5
# Clients that begin one short session after the other.
HURRIES = 12


class TooSlow(Exception):
    """The machine took longer than a stopped server waits, so that nothing can be said of it."""


class Replica:
    """A server with an address of its own, which it has again after a restart."""

    def __init__(self, program, name, arguments):
        self.port = balancers.free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.starts = itertools.count()
        self.program, self.name, self.arguments = program, name, arguments
        self.server = None

    def start(self):
        name = f"{self.name}-{next(self.starts)}"
        self.server = Server(self.program, name, self.arguments, port=self.port)
        self.server.__enter__()

    def stop(self):
        self.server.__exit__()

    @property
    def pid(self):
        return self.server.process.pid


class Pair:
    """Two replicas."""

    def __init__(self, program, name, arguments=()):
        self.replicas = [Replica(program, f"{name}-{one}", arguments) for one in ("one", "two")]

    def __enter__(self):
        for replica in self.replicas:
            replica.start()
        return self.replicas

    def __exit__(self, *_):
        for replica in self.replicas:
            replica.stop()


class Exec:
    """A kubectl whose command tells which replica runs it, and exits once it hears a line."""

    SCRIPT = f"echo $PPID; read line; echo $line; exit {CODE}"

    def __init__(self, kubectl, front, home, mark):
        self.kubectl = kubectl
        self.name = f"kubectl {kubectl.name} over {kubectl.wire.name}"
        self.process = Session(kubectl, front, home).start(
            ["env", f"{MARK}={mark}", "sh", "-c", self.SCRIPT], ["-i"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        self.err = Sink(self.process.stderr)
        self.replica = None

    def begin(self):
        """Waits until the command runs."""
        line = self.process.stdout.readline()
        if not line:
            raise Failure(f"{self.name}: no output; stderr {short(self.err.all())}")
        self.replica = int(line)

    def finish(self):
        """Lets the command exit, and checks that its session came to the right end."""
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()
        self.ended(CODE, b"go\n", b"command terminated with exit code %d" % CODE)

    def told(self):
        """Checks that the session ended because its server stopped."""
        self.ended(1, b"", TOLD.encode())

    def ended(self, code, out, words):
        status = self.process.wait(PATIENCE)
        err = self.err.all()
        seen = (status, self.process.stdout.read())
        equal(seen, (code, out), f"{self.name}: exit code and stdout (stderr {short(err)})")
        expect(words in err, f"{self.name}: not on stderr: {short(err)}")

    def close(self):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                pipe.close()
            except OSError:
                pass  # a line that was not taken


def together(function, items):
    """Calls it with each at the same time, and returns what it returned, or raises the first error."""
    items = list(items)
    with ThreadPoolExecutor(len(items) or 1) as pool:
        return list(pool.map(function, items))


class Scene:
    """Sessions on two replicas behind a balancer."""

    def __init__(self, name, balancer, clients, program, identity, home, count):
        self.balancer, self.clients, self.count = balancer, itertools.cycle(clients), count
        self.program, self.identity, self.home = program, identity, home
        self.name = f"balanced-{name}-{balancer.__name__}"

    def run(self):
        for self.finish in FINISH:
            try:
                return self.once()
            except TooSlow:
                continue
        raise Failure(f"too slow a machine: a step of the drain took over {self.finish} s")

    def once(self):
        self.mark = new_mark()
        self.execs = []
        pair = Pair(self.program, f"{self.name}-{self.finish}", ["--drain-after", f"{self.finish}s"])
        with pair as replicas, self.balancer(replicas, self.identity) as front:
            self.front = front
            try:
                self.fill()
                notes = self.play(replicas)
                together(Exec.finish, self.execs)
                expect(until(2, lambda: not marked(self.mark)), "commands are left")
            finally:
                for one in self.execs:
                    one.close()
        return "; ".join(notes)

    def of(self, replica):
        """Returns the sessions on a replica, and those on the other one."""
        there = [one for one in self.execs if one.replica == replica.pid]
        return there, [one for one in self.execs if one.replica != replica.pid]

    def fill(self):
        """Starts as many sessions as are missing."""
        new = [self.start() for _ in range(self.count - len(self.execs))]
        self.execs += new
        together(Exec.begin, new)

    def start(self):
        return Exec(next(self.clients), self.front, self.home, self.mark)


class Rollout(Scene):
    """The replicas are replaced, one after the other."""

    def play(self, replicas):
        return [self.replace(replica) for replica in replicas]

    def replace(self, replica):
        """Stops a replica that has sessions, starts it again, and says what became of them."""
        server, pid = replica.server, replica.pid
        on_it, elsewhere = self.of(replica)
        finishing, staying = on_it[::2], on_it[1::2]
        expect(len(staying) > 1, f"{len(on_it)} of {self.count} sessions on the one to be stopped")

        def finish(number):
            def step():
                time.sleep(self.finish / 2 * number / len(finishing))
                finishing[number].finish()
            return step

        def enter():
            for _ in range(NEW):
                with closing(self.start()) as one:
                    one.begin()
                    expect(one.replica != pid, "a new session on the replica that was stopped")
                    one.finish()

        server.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        try:
            together(lambda step: step(), [enter, *map(finish, range(len(finishing)))])
        finally:
            # Also in place of a failure: a session that was told too early is one.
            if time.monotonic() - started > self.finish:
                raise TooSlow
        together(Exec.told, staying)
        equal(server.process.wait(PATIENCE), 0, "exit status of the replica")
        seconds = time.monotonic() - started
        log = server.log()
        count = f"drained.ended={len(staying)} drained.cut=0"
        expect(count in log, f"no {count} in {server.log_path}")
        expect("panicked" not in log, f"a panic in {server.log_path}")
        for one in elsewhere:
            expect(one.process.poll() is None, f"{one.name} on the other replica has ended")
        for one in on_it:
            one.close()
        self.execs = elsewhere
        replica.start()
        expect(until(PATIENCE, lambda: self.is_used(replica), 0.2), "no session on the new replica")
        self.fill()
        return (
            f"{len(finishing)} of {len(on_it)} finished, {len(staying)} were told, stopped after "
            f"{seconds:.1f} s, {NEW} new ones elsewhere"
        )

    def is_used(self, replica):
        with closing(self.start()) as one:
            one.begin()
            one.finish()
            return one.replica == replica.pid


class Crash(Scene):
    """A replica is killed: its sessions fail, and the next ones go to the other."""

    def play(self, replicas):
        lost, self.execs = self.of(replicas[0])
        expect(lost and self.execs, f"{len(lost)} of {self.count} sessions on the one to be killed")
        replicas[0].server.process.kill()
        codes = {SPDY: set(), WEBSOCKET: set()}
        for one in lost:
            codes[one.kubectl.wire].add(one.process.wait(PATIENCE))
            one.close()
        # Over SPDY, client-go takes the end of the connection for that of the error stream, and
        # an empty error stream for a success.
        equal(codes[WEBSOCKET], {1}, "exit codes over WebSocket")
        self.fill()
        return [f"{len(lost)} were lost, over SPDY with {sorted(codes[SPDY])}"]


class Reload(Scene):
    """The balancer is started anew: its sessions go on."""

    def play(self, _):
        self.front.reload()
        for one in self.execs:
            expect(one.process.poll() is None, f"{one.name} has ended")
        old, self.count = self.count, 2 * self.count
        self.fill()
        return [f"{old} sessions, and as many new ones"]


def announced(program, identity):
    """Replaces both replicas, which HAProxy is told before, while short sessions begin without a pause."""
    v5, path = BY_NAME["v5.channel.k8s.io"], target(["true"], stdout=True)
    over = threading.Event()

    def hurry():
        count = 0
        while not over.is_set():
            with Client(front, v5, path) as client:
                equal(client.answer.status, 101, f"status of session {count}")
                told(v5, Outcome(v5, *client.until_close()), 0)
            count += 1
        return count

    def replace():
        try:
            for number, replica in enumerate(replicas):
                time.sleep(1)
                front.set_state(number, "drain")
                time.sleep(0.2)
                replica.server.process.send_signal(signal.SIGTERM)
                equal(replica.server.process.wait(PATIENCE), 0, "exit status of the replica")
                replica.start()
                front.set_state(number, "ready")
                expect(until(PATIENCE, lambda: front.is_up(number), 0.1), "it is not up again")
        finally:
            over.set()
        return 0

    pair = Pair(program, "balanced-announced", ["--drain-after", f"{FINISH[-1]}s"])
    with pair as replicas, balancers.HAProxy(replicas, identity) as front:
        counts = together(lambda step: step(), [replace, *[hurry] * HURRIES])
    return f"{sum(counts)} sessions"


def checks(clients, program, identity, home, count):
    """Yields arguments of `Report.check`."""
    yield (
        "HAProxy: no new session fails while replicas are replaced of which it is told",
        lambda: announced(program, identity),
    )
    few = 2 * len(clients)
    for balancer in balancers.ALL:
        for kind, number, text in (
            (Rollout, count, f"two replicas are replaced while {count} kubectls run"),
            (Crash, few, "a replica is killed"),
            (Reload, few, "a reload of the balancer cuts no session"),
        ):
            scene = kind(kind.__name__, balancer, clients, program, identity, home, number)
            yield f"{balancer.__name__}: {text}", scene.run
