"""The checks of `kubectl exec`: what a command gives back, stdin, the end, a terminal."""

import hashlib
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kubectls
from harness import (
    MARK, Failure, describe, equal, expect, marked, new_mark, short, until,
)
from session import MIB, PATIENCE, Session, Sink, Watchdog, hash_of


class Execs(Session):
    """The checks of `kubectl exec`."""

    # The results of a command.

    def exit_code(self, script, code):
        status, out, err = self.run(["sh", "-c", script])
        equal(status, code, f"exit code (stderr {short(err)})")
        equal(out, b"", "stdout")
        if code:
            expect(str(code).encode() in err, f"the code is not in stderr: {short(err)}")
        else:
            equal(err, b"", "stderr")

    def apart(self):
        status, out, err = self.run(["sh", "-c", "echo to-out; echo to-err >&2"])
        equal((status, out, err), (0, b"to-out\n", b"to-err\n"), "exit code, stdout, stderr")

    def no_such_command(self):
        status, out, err = self.run(["no-such-command"])
        expect(status != 0, "exit code 0")
        expect(b"no-such-command" in out + err, f"not named in the output: {short(out + err)}")
        return err.decode("utf-8", "replace").strip()

    def nothing_lost_at_the_start(self, times):
        """A kubectl up to 1.33 drops data that arrives before it has made its streams."""
        def once(_):
            return self.run(["sh", "-c", "echo hi; exit 9"])

        with ThreadPoolExecutor(4) as pool:
            seen = list(pool.map(once, range(times)))
        bad = [one for one in seen if one[:2] != (9, b"hi\n")]
        expect(not bad, f"{len(bad)} of {times} lost output or status, the first: {short(bad[:1])}")
        noisy = [err for _, _, err in seen if err != b"command terminated with exit code 9\n"]
        expect(not noisy, f"{len(noisy)} of {times} with other words on stderr: {short(noisy[:1])}")
        return f"{times} times"

    def at_once(self, number):
        """Sessions at the same time do not get the output or the exit code of another."""
        # Each waits until the last has started, or a fast machine would run them one by one.
        with tempfile.TemporaryDirectory() as folder:
            script = (
                'read word; echo $1; echo error-$1 >&2; touch "$2/$1"; '
                'while [ ! -e "$2/go" ]; do sleep 0.1; done; echo $word; exit $1'
            )
            processes = [
                self.start(
                    ["sh", "-c", script, "sh", str(one), folder], ["-i"], stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                )
                for one in range(number)
            ]
            try:
                for one, process in enumerate(processes):
                    process.stdin.write(b"word-%d\n" % one)
                    process.stdin.flush()
                there = until(PATIENCE, lambda: len(os.listdir(folder)) == number, 0.1)
                expect(there, f"only {len(os.listdir(folder))} of {number} ran at once")
                (Path(folder) / "go").touch()
                for one, process in enumerate(processes):
                    out, err = process.communicate(timeout=PATIENCE)
                    wanted = b"error-%d\n" % one
                    if one:
                        wanted += b"command terminated with exit code %d\n" % one
                    seen = (process.returncode, out, self.words_of(err))
                    equal(seen, (one, b"%d\nword-%d\n" % (one, one), wanted), f"session {one}")
            finally:
                for process in processes:
                    process.kill()
                    process.communicate()
        return f"{number} sessions"

    # stdin.

    def half_close(self):
        status, out, err = self.run(["wc", "-c"], ["-i"], stdin=b"abc")
        equal((status, out.strip(), err), (0, b"3", b""), "exit code, stdout, stderr")

    def empty_stdin(self):
        status, out, err = self.run(["wc", "-c"], ["-i"], stdin=b"")
        equal((status, out.strip(), err), (0, b"0", b""), "exit code, stdout, stderr")

    def random_bytes(self, mib):
        """Random bytes there and back, a hash a MiB to say where they differ."""
        process = self.start(
            ["cat"], ["-i"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        sent, errors = [], []

        def feed():
            try:
                for _ in range(mib):
                    block = os.urandom(MIB)
                    sent.append(hashlib.sha256(block).digest())
                    process.stdin.write(block)
                process.stdin.close()
            except OSError as error:
                errors.append(f"kubectl stopped reading its stdin: {error}")

        feeder = threading.Thread(target=feed, daemon=True)
        stderr = Sink(process.stderr)
        started = time.monotonic()
        got, total = [], 0
        # 2 MiB a second is far below any machine.
        with Watchdog(process, PATIENCE + mib / 2):
            feeder.start()
            while block := process.stdout.read(MIB):
                got.append(hashlib.sha256(block).digest())
                total += len(block)
            status = process.wait()
            seconds = time.monotonic() - started
            feeder.join(5)
            err = stderr.all()
        expect(not errors, f"{'; '.join(errors)} (stderr {short(err)})")
        equal((status, err), (0, b""), f"after {total} bytes, exit code and stderr")
        equal(total, mib * MIB, "bytes")
        for index, (there, back) in enumerate(zip(sent, got)):
            expect(there == back, f"the bytes differ in MiB {index}")
        return f"{mib} MiB, {mib / seconds:.0f} MiB/s each way"

    def slow_reader(self, path):
        """The process is long gone when its last output is read, at 1 MiB a second."""
        process = self.start(
            ["sh", "-c", f"cat {path}; exit 3"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        size, total, digest = os.path.getsize(path), 0, hashlib.sha256()
        stderr = Sink(process.stderr)
        with Watchdog(process, PATIENCE + 2 * size / MIB):
            while block := process.stdout.read(MIB // 4):
                digest.update(block)
                total += len(block)
                time.sleep(0.25)
            status, err = process.wait(), stderr.all()
        wanted = (3, b"command terminated with exit code 3\n")
        equal((status, err), wanted, f"after {total} bytes, exit code and stderr")
        equal(total, size, "bytes")
        equal(digest.hexdigest(), hash_of(path), "hash")
        return f"{size // MIB} MiB"

    def endless_stdin(self, script="sleep 2; exit 7"):
        """The command's own exit code, though its stdin never ends and is never read to an end."""
        with open("/dev/zero", "rb") as zero:
            process = self.start(
                ["sh", "-c", script], ["-i"],
                stdin=zero, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            try:
                _, err = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise Failure(f"kubectl still runs after {PATIENCE} s") from None
        equal(process.returncode, 7, f"exit code (stderr {short(err)})")

    # The end of a kubectl.

    def killed(self, script, processes, stdin_mib=0):
        """No process with the mark is left soon after a SIGKILL."""
        mark, within = new_mark(), self.server.gone_within
        command = ["env", f"{MARK}={mark}", "sh", "-c", script]
        with tempfile.TemporaryFile() as stdin:
            stdin.truncate(stdin_mib * MIB)
            process = self.start(
                command, ["-i"] if stdin_mib else [], stdin=stdin,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )
            try:
                there = until(10, lambda: len(marked(mark)) >= processes)
                expect(there, f"only {describe(marked(mark))} of {processes} started")
                if stdin_mib:
                    # Long enough that everything between us and the command is full.
                    time.sleep(3)
                    unread = stdin_mib * MIB - os.lseek(stdin.fileno(), 0, os.SEEK_CUR)
                    expect(unread > stdin_mib * MIB // 4, f"only {unread} bytes are unread")
                if process.poll() is not None:
                    raise Failure(f"kubectl ended by itself: {short(process.stderr.read())}")
                process.kill()
                killed = time.monotonic()
                process.wait()
                gone = until(within, lambda: not marked(mark))
                seconds = time.monotonic() - killed
                expect(gone, f"left after {within} s: {describe(marked(mark))}")
            finally:
                process.kill()
                process.wait()
                sweep(mark)
        return f"gone after {seconds:.2f} s"

    def killed_terminal(self):
        """Job control gives each job a process group of its own, and all have to end."""
        mark, within = new_mark(), self.server.gone_within
        with self.on_a_terminal(["env", f"{MARK}={mark}", "sh", "-i"]) as terminal:
            try:
                terminal.say('trap "" HUP; sleep 1001 & sleep 1002 & echo j""obs')
                terminal.hear(r"jobs")
                expect(until(20, lambda: len(marked(mark)) >= 3), "the jobs did not start")
                os.kill(terminal.pid, signal.SIGKILL)
                killed = time.monotonic()
                gone = until(within, lambda: not marked(mark))
                seconds = time.monotonic() - killed
                expect(gone, f"left after {within} s: {describe(marked(mark))}")
            finally:
                sweep(mark)
        return f"gone after {seconds:.2f} s"

    # exec -it.

    def terminal(self):
        mark = new_mark()
        with self.on_a_terminal(["env", f"{MARK}={mark}", "sh"]) as terminal:
            terminal.say("test -t 0 && test -t 1 && test -t 2 && echo is-a-t''ty")
            terminal.hear(r"is-a-tty")
            self.size_becomes(terminal, 33, 101)
            terminal.resize(47, 132)
            self.size_becomes(terminal, 47, 132)

            before = len(marked(mark))
            terminal.say("sleep 1000")
            expect(until(20, lambda: len(marked(mark)) > before), "the sleep did not start")
            terminal.type(b"\x03")
            expect(until(2, lambda: len(marked(mark)) == before), "Ctrl-C did not end the sleep")
            terminal.say("echo co''de $?")
            terminal.hear(r"code 130\b")

            terminal.say("sleep 1000")
            expect(until(20, lambda: len(marked(mark)) > before), "the sleep did not start")
            terminal.type(b"\x1a")
            terminal.say("jo''bs; echo job''-list")
            seen = terminal.hear(r"job-list")
            expect("Stopped" in seen, f"Ctrl-Z did not stop the sleep: {short(seen)}")
            terminal.say("f''g")
            terminal.hear(r"sleep 1000")

            def interrupted():
                # The shell names the command before it hands the terminal over to it.
                terminal.type(b"\x03")
                return until(0.5, lambda: len(marked(mark)) == before)

            expect(until(3, interrupted), "fg and Ctrl-C did not end it")
            terminal.say("exit 5")
            equal(terminal.wait(), 5, "exit code")
        expect(until(2, lambda: not marked(mark)), f"left: {describe(marked(mark))}")

    def size_becomes(self, terminal, rows, columns):
        """Asks until it is so, because a resize and a typed line arrive in any order."""
        wanted = f"size {rows} {columns} end"
        for _ in range(20):
            terminal.say("echo si''ze $(stty size) end")
            seen = terminal.hear(r"size \d+ \d+ end")
            if wanted in seen:
                return
            time.sleep(0.1)
        raise Failure(f"stty said {short(seen)}, wanted {wanted}")

    # The log of the server.

    def handshake(self):
        status, _, err = self.run(["true"], verbose=["-v=8"])
        text = err.decode("utf-8", "replace")
        equal(status, 0, "exit code")
        lines = [line for line in text.splitlines() if re.search(r"\bPOST\b|SPDY", line)]
        if self.kubectl.wire == kubectls.SPDY:
            expect("Upgrade: SPDY/3.1" in text, f"kubectl does not speak of SPDY: {short(lines)}")
        else:
            expect(not lines, f"kubectl speaks of SPDY: {short(lines[:2])}")

    def server_log(self, start):
        """Every session came to the server over the one protocol."""
        wire, execs = self.wire, self.execs

        def sessions():
            return re.findall(r"method=(\w+) .*: session over subprotocol=(\S+)", self.server.log(start))

        seen = until(20, lambda: len(sessions()) >= execs and sessions()) or sessions()
        expect(len(seen) >= execs, f"{len(seen)} sessions in the log, {execs} execs")
        equal(set(seen), {(wire.method, wire.subprotocol)}, "methods and subprotocols")
        return f"{len(seen)} sessions over {wire.name}, {execs} execs"

    def no_zombies(self):
        left = until(2, lambda: not self.server.zombies())
        expect(left, f"not waited for: {self.server.zombies()}")


def sweep(mark):
    """A failed check must not leave its processes to the next one."""
    for pid in marked(mark):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
