"""Commands in the browser: a terminal, pipes, and how they end."""

import hashlib
import random
import re
import string

from harness import equal, expect, until
from page import PATIENCE

MIB = 1 << 20
FALLBACKS = ["v4.channel.k8s.io", "v4.base64.channel.k8s.io", "base64.channel.k8s.io"]


def checks(report, browser, server):
    # All in one page, because opening one takes a second.
    page = browser.open(server)
    view = page.view("exec")
    view.connected()
    for name, check in [
        ("a shell opens, and runs a command", shell),
        ("the shell has the size of the window", resized),
        ("Ctrl-C", interrupted),
        ("the exit code, and Enter connects again", exited),
        ("disconnect hangs up", hung_up),
        ("a paste of 1 MiB", pasted),
        ("stderr apart, lines of input, and their end", piped),
        ("a command that cannot start says why", not_started),
        ("the keyboard leaves the terminal", left),
    ]:
        def run(check=check):
            view.start("sh")
            view.connected()
            return check(page, view)

        report.check(name, run)
    for name in FALLBACKS:
        report.check(f"fallback: {name}", lambda name=name: fallback(view, name))
    report.check("the console has no errors", page.quiet)
    page.tab.context.close()


def shell(page, view):
    view.answers(42)
    page.picture("exec")


def resized(page, view):
    view.answers(1)
    seen = []
    for width, height in [(900, 600), (500, 400), (1000, 700)]:
        page.tab.set_viewport_size({"width": width, "height": height})

        def size():
            view.type("clear; stty size")
            return until(1, lambda: next(filter(SIZE.match, view.rows()), None))

        # The page learns of its new size in its next frame.
        found = until(PATIENCE, lambda: (now := size()) and now not in seen and now)
        expect(found, f"stty size did not change from {seen}")
        rows, columns = map(int, found.split())
        equal(rows, len(view.rows()), f"rows at {width}x{height}")
        # A line of this many letters fills one row, and the next letter is on another.
        view.type(f"clear; printf '%{columns}s.\\n' '' | tr ' ' =")
        view.wait_row("=" * columns)
        view.wait_row(".")
        seen.append(found)
    return ", ".join(seen)


SIZE = re.compile(r"\d+ \d+$")


def interrupted(page, view):
    view.type("sleep 1000")
    view.interrupt()
    view.type("echo code-$?")
    view.wait_row("code-130")


def exited(page, view):
    view.type("exit 3")
    equal(view.wait_state("exit"), "exit code 3", "state")
    page.picture("exit-code")
    page.tab.keyboard.press("Enter")
    view.connected()
    view.answers(7)
    view.type("exit")
    equal(view.wait_state("exit"), "exit code 0", "state")
    view.find("[name=start]").click()
    view.connected()
    view.answers(8)


def hung_up(page, view):
    view.find("[name=stop]").click()
    view.wait_state("^disconnected$")
    expect(view.find("[name=stop]").is_disabled(), "Disconnect is still there")


def pasted(page, view):
    letters = string.ascii_letters + string.digits
    text = "".join(random.Random(1).choices(letters, k=MIB))
    view.type(f"stty raw -echo; echo ready; head -c {MIB} | md5sum; stty sane")
    view.wait_row("ready")
    page.tab.evaluate(
        """([at, text]) => {
            const clipboardData = new DataTransfer();
            clipboardData.setData("text/plain", text);
            const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
            document.querySelector(at).dispatchEvent(event);
        }""",
        [f"{view.at} .xterm-helper-textarea", text],
    )
    sum_ = hashlib.md5(text.encode()).hexdigest()
    found = until(PATIENCE, lambda: any(row.strip().startswith(sum_) for row in view.rows()))
    expect(found, f"no md5sum {sum_}: {view.rows()}")


def piped(page, view):
    view.start("sh -c 'echo out; echo \"an error\" >&2; cat; exit 4'", tty=False)
    view.wait_row("an error", "stderr")
    view.wait_row("out")
    expect("an error" not in view.rows(), "stderr is on the screen of stdout")
    # The focus is in the line of input.
    view.type("one line")
    view.wait_row("one line")
    page.picture("stderr")
    view.find("[name=end]").click()
    equal(view.wait_state("exit"), "exit code 4", "state")


def not_started(page, view):
    view.start("/no/such/program")
    state = view.wait_state("error executing command")
    expect("no such file" in state, state)
    page.picture("failure")


def left(page, view):
    page.tab.keyboard.press("Control+F6")
    focused = page.tab.evaluate("document.activeElement.name")
    equal(focused, "stop", "the element with the focus")


def fallback(view, name):
    view.start("sh", subprotocol=name)
    view.connected(name)
    view.answers(9)
    # More than the window: the acknowledgements are encoded too.
    view.type("seq 100000")
    view.wait_row("100000")
    view.type("exit 5")
    state = view.wait_state("exit")
    expect(re.search(r"exit (code|status) 5$", state), state)
    view.start("sh -c 'exit 0'", tty=False, subprotocol=name)
    equal(view.wait_state("exit"), "exit code 0", "state")
