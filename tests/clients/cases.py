"""The checks of every kubectl, wherever its server stands."""

import tempfile
import time
from pathlib import Path

import copying
import draining
import kubectls
import logs
from attaching import attach, stalled
from execs import Execs
from harness import Server, loud, say
from session import random_file

# Through cat, for those between the oldest and the newest.
MIDDLE_MIB = 64


def add_options(parser):
    """Adds options for the amounts, and for the kubectls."""
    parser.add_argument("--mib", type=int, default=256,
                        help=f"random bytes through cat (256; never more than {MIDDLE_MIB} "
                        "for those between the oldest and the newest)")
    parser.add_argument("--slow-mib", type=int, default=8, help="read at 1 MiB/s (8)")
    parser.add_argument("--starts", type=int, default=200, help="runs for lost first bytes (200)")
    parser.add_argument("--tree", type=int, default=2000, help="files in the tree for cp (2000)")
    parser.add_argument("--file-mib", type=int, default=200, help="the one file for cp (200)")
    parser.add_argument("--at-once", type=int, default=50, help="sessions at once (50)")
    kubectls.add_options(parser)
    parser.add_argument("--only", help="only checks whose name matches this")


class Material:
    """The files that are copied, made once for all kubectls."""

    def __init__(self, folder, options):
        # kubectl cp runs it in the pod.
        if not kubectls.need("tar", "tar"):
            loud("NO tar HERE: kubectl cp cannot work")
        self.folder = folder
        self.slow = Path(folder) / "slow"
        random_file(self.slow, options.slow_mib)
        self.originals = copying.Originals(folder, options.tree, options.file_mib)


class Cases:
    """The checks of some kubectls against one kind of server.

    `serve` makes one of that kind: called with a name, it gives a context manager
    whose value is the server as a kubectl reaches it. `label` goes before the name
    of each check.
    """

    def __init__(self, report, found, options, material, serve, label=""):
        self.report, self.found, self.options = report, found, options
        self.material, self.serve, self.label = material, serve, label

    def waiting(self):
        """Runs the checks that mostly wait, with all kubectls at once on one server."""
        with self.serve("all") as server, tempfile.TemporaryDirectory() as home:
            checks = []
            for kubectl in self.found:
                def slow_reader(session=Execs(kubectl, server, home)):
                    return session.slow_reader(self.material.slow)

                def attached(session=Execs(kubectl, server, home)):
                    return attach(session)

                name = f"{self.label}{kubectl.name}"
                translated = Execs(kubectl, server, home).is_translated
                checks.append((f"{name} slow reader gets everything", slow_reader, translated))
                checks.append((f"{name} attach", attached))
            self.report.together(checks)

    def told(self):
        """Returns arguments of `Report.check` for each kubectl, about the end of its server."""
        return [
            (
                f"{self.label}{kubectl.name} says why, when the server stops",
                lambda kubectl=kubectl: draining.kubectl_is_told(kubectl, self.serve),
            )
            for kubectl in self.found
        ]

    def each(self):
        """Runs the checks of each kubectl alone; all of them for the oldest and the newest."""
        for kubectl in self.found:
            # Each has a server of its own, so that the log is about this kubectl alone.
            with self.serve(kubectl.name) as server, tempfile.TemporaryDirectory() as home:
                started = time.monotonic()
                session = Execs(kubectl, server, home)
                self.check(session, kubectl in (self.found[0], self.found[-1]))
                seconds = time.monotonic() - started
                say(f"-- {self.label}kubectl {kubectl.name} took {seconds:.0f} s")

    def check(self, session, everything):
        kubectl, stalls = session.kubectl, session.stalls_are_fatal
        options, material = self.options, self.material
        log_start = session.server.log_size()

        def check(name, function, *arguments, informational=False):
            name = f"{self.label}{kubectl.name} {name}"
            self.report.check(name, lambda: function(*arguments), informational)

        def beyond(*arguments, **informational):
            if everything:
                check(*arguments, **informational)

        wire = kubectl.wire.name
        check(f"{wire} in the handshake", session.handshake)
        check("logs", logs.plain, session)
        check("logs --tail", logs.tail, session)
        check("logs -f until Ctrl-C", logs.follow, session)
        check("exit code 0", session.exit_code, "true", 0)
        check("exit code 1", session.exit_code, "exit 1", 1)
        check("exit code 42", session.exit_code, "exit 42", 42)
        check("exit code 137 of a SIGKILL", session.exit_code, "kill -9 $$", 137)
        check("stdout and stderr apart", session.apart)
        check("no-such-command is named", session.no_such_command)
        beyond("nothing lost at the start", session.nothing_lost_at_the_start, options.starts)
        check("half-close ends wc", session.half_close)
        check("empty stdin ends wc", session.empty_stdin)
        mib = options.mib if everything else min(options.mib, MIDDLE_MIB)
        check("random bytes through cat", session.random_bytes, mib)
        check("cp of a tree, both ways", copying.tree, session, material.originals, material.folder)
        check("cp of a file, both ways", copying.file, session, material.originals, material.folder)
        check("sessions at once", session.at_once, options.at_once)
        # 1.29 gives up if its stdin waits, which can happen in a flood behind more hops.
        floods = stalls and session.server.flood_mib > Server.flood_mib
        beyond(
            "attach: one who does not read, and one who does", stalled, session,
            informational=floods,
        )
        unread = stalls or session.is_translated
        beyond("endless unread stdin", session.endless_stdin, informational=unread)
        beyond("exec -it: size, Ctrl-C, Ctrl-Z, exit code", session.terminal)
        beyond("SIGKILL leaves nothing", session.killed, "sleep 1001 & sleep 1002 | cat", 4)
        stubborn = 'trap "" HUP INT TERM PIPE; sleep 1001 & sleep 1002; sleep 1003'
        beyond("SIGKILL leaves nothing that ignores signals", session.killed, stubborn, 3)
        beyond("SIGKILL leaves nothing of a terminal's jobs", session.killed_terminal)
        beyond(
            "SIGKILL leaves nothing, 64 MiB of stdin unread",
            session.killed, "sleep 1000; :", 2, 64, informational=unread,
        )
        check("the server waits for its children", session.no_zombies)
        check(f"the server saw {session.wire.name} only", session.server_log, log_start)
