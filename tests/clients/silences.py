"""Sessions without data, behind balancers that cut what is silent for seconds."""

import subprocess
import time

import balancers
from exchange import target, told
from harness import MARK, Failure, describe, equal, expect, marked, new_mark, short, until
from kubectls import SPDY
from replicas import Pair, together
from session import PATIENCE, Session, Sink, Watchdog
from wsclient import BY_NAME, ERROR, STDOUT, Client, Outcome

# Seconds for which the sessions say nothing.
SILENCE = 12
# Seconds after which a balancer cuts, and the interval of Pings that is enough for that.
CUT, OFTEN = 5, "2s"
# Seconds below the interval at which kubectl itself sends Pings, which is 5.
CUT_BEFORE_KUBECTL_PINGS = 3
CODE = 7
HALVES = [BY_NAME["v5.channel.k8s.io"], BY_NAME["v4.channel.k8s.io"]]


def command(mark):
    return ["env", f"{MARK}={mark}", "sh", "-c", f"sleep {SILENCE}; echo awake; exit {CODE}"]


class Silent:
    """Sessions of all clients through one front, which say nothing."""

    def __init__(self, balancer, seconds, ping, clients, program, identity, home):
        self.balancer, self.changes = balancer, balancer.idle(seconds)
        name = f"balanced-{balancer.__name__}-{seconds}-{ping}"
        self.pair = Pair(program, name, ["--keep-alive", ping])
        self.clients, self.identity, self.home = clients, identity, home

    def all(self, with_kubectl, with_raw):
        with self.pair as pair, self.balancer(pair, self.identity, self.changes) as front:
            seen = together(
                lambda step: step[0](step[1], front),
                [(with_kubectl, one) for one in self.clients] + [(with_raw, one) for one in HALVES],
            )
        return ", ".join(sorted({note for note in seen if note}))

    def kept(self):
        """Every client gets the output and the exit code of its command."""
        return self.all(self.kubectl_is_kept, self.raw_is_kept)

    def cut(self):
        """Every client is cut off, and its command ends. No client that can tell takes it for a success."""
        return self.all(self.kubectl_is_cut, self.raw_is_cut)

    def kubectl(self, kubectl, front):
        """Returns (exit code, stdout), stderr, seconds and mark of a session."""
        mark = new_mark()
        process = Session(kubectl, front, self.home).start(
            command(mark), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        out, err = Sink(process.stdout), Sink(process.stderr)
        with Watchdog(process, PATIENCE):
            expect(until(PATIENCE / 2, lambda: marked(mark)), "the command does not run")
            started = time.monotonic()
            status = process.wait()
            return (status, out.all()), err.all(), time.monotonic() - started, mark

    def kubectl_is_kept(self, kubectl, front):
        seen, err, *_ = self.kubectl(kubectl, front)
        what = f"kubectl {kubectl.name} over {kubectl.wire.name}: exit code and stdout"
        equal(seen, (CODE, b"awake\n"), f"{what} (stderr {short(err)})")

    def kubectl_is_cut(self, kubectl, front):
        (status, out), err, seconds, mark = self.kubectl(kubectl, front)
        name = f"kubectl {kubectl.name} over {kubectl.wire.name}"
        expect(seconds < SILENCE, f"{name} was not cut")
        equal(out, b"", f"stdout of {name}")
        gone(mark)
        if kubectl.wire == SPDY:
            # client-go takes the end of the connection for that of the error stream, and an empty
            # error stream for a success.
            return f"over SPDY, kubectl ends with {status}"
        equal(status, 1, f"exit code of {name}, stderr {short(err)}")
        return "over WebSocket with 1"

    def raw(self, subprotocol, front, mark):
        with Client(front, subprotocol, target(command(mark), stdout=True)) as client:
            equal(client.answer.status, 101, "status")
            return Outcome(subprotocol, *client.until_close())

    def raw_is_kept(self, subprotocol, front):
        outcome = self.raw(subprotocol, front, new_mark())
        outcome.only(STDOUT, ERROR)
        equal(outcome.bytes(STDOUT), b"awake\n", "stdout")
        told(subprotocol, outcome, CODE)

    def raw_is_cut(self, subprotocol, front):
        mark = new_mark()
        try:
            self.raw(subprotocol, front, mark)
        except Failure as error:
            expect("without a Close" in str(error), f"not cut, but: {error}")
        else:
            raise Failure("a raw client was not cut")
        gone(mark)


def gone(mark):
    expect(until(2, lambda: not marked(mark)), f"left: {describe(marked(mark))}")


def checks(clients, program, identity, home):
    """Yields arguments of `Report.check`."""
    for balancer in balancers.ALL:
        def silent(seconds, ping, balancer=balancer):
            return Silent(balancer, seconds, ping, clients, program, identity, home)

        name = balancer.__name__
        yield (
            f"{name} cuts after {CUT} s: Pings every {OFTEN} keep silent sessions",
            silent(CUT, OFTEN).kept,
        )
        yield (
            f"{name} cuts after {CUT_BEFORE_KUBECTL_PINGS} s: without Pings, silent sessions are cut",
            silent(CUT_BEFORE_KUBECTL_PINGS, "none").cut,
        )
