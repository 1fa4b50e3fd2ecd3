"""The other views: attach, the log, the sessions; and how they look."""

from harness import ROOT, equal, expect, until
from page import PATIENCE

PICTURE = ROOT / "examples" / "pod-server" / "terminal.png"
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def checks(report, browser, server, picture):
    report.check("attach: the output of the process, and a line", lambda: attached(browser, server))
    report.check("log: follow and pause", lambda: followed(browser, server))
    report.check("sessions: alive, and ended", lambda: listed(browser, server))
    report.check("dark", lambda: dark(browser, server))
    report.check("on a phone", lambda: phone(browser, server))
    if picture:
        report.check("the picture of README", lambda: drawn(browser, server))


def attached(browser, server):
    with browser.open(server, "/#attach") as page:
        view = page.view("attach")
        view.connected()
        view.type("hello from a page")
        found = until(PATIENCE, lambda: any("hello from a page" in row for row in view.rows()))
        expect(found, f"no echo: {view.rows()}")
        page.picture("attach")
        view.find("[name=stop]").click()
        view.wait_state("^disconnected$")


def followed(browser, server):
    with browser.open(server, "/#log") as page:
        view = page.view("log")
        view.connected("binary.k8s.io")

        def lines():
            return [row for row in view.rows("log") if row]

        def goes_on():
            before = lines()[-1]
            expect(until(PATIENCE, lambda: lines()[-1] != before), "the log does not go on")

        expect(until(PATIENCE, lines), "the log is empty")
        goes_on()
        page.picture("log")
        view.find("[name=pause]").click()

        def settled():
            shown = lines()
            page.tab.evaluate(TWO_FRAMES)
            return shown == lines() and shown

        # xterm may still draw a line that came before the click.
        paused = until(PATIENCE, settled)
        expect(paused, "the lines still change in a pause")
        # The process prints each second.
        page.tab.wait_for_timeout(1500)
        equal(lines(), paused, "the lines in a pause")
        view.find("[name=pause]").click()
        goes_on()
        view.find("[name=stop]").click()
        view.wait_state("^disconnected$")
        view.find("[name=follow]").uncheck()
        view.find("[name=lines]").fill("2")
        view.find("[name=start]").click()
        view.wait_state("^end of the log$")
        equal(len(lines()), 2, "lines")


def listed(browser, server):
    with browser.open(server) as shell, browser.open(server, "/#sessions") as page:
        view = shell.view("exec")
        view.connected()
        list_ = page.view("sessions")

        def cells(kind):
            return [row.split("\t") for row in list_.find(f"[data-list={kind}] tr").all_inner_texts()]

        def alone():
            found = cells("live")
            return len(found) == 1 and found[0][1] == "exec" and found[0]

        def mine(kind):
            return next((row for row in cells(kind) if row[0] == number), None)

        # Those of the checks before end a moment after their pages.
        row = until(PATIENCE, alone)
        expect(row, f"not one exec: {cells('live')}")
        number = row[0]
        equal(row[2], "v5.channel.k8s.io", "subprotocol")
        view.answers(3)
        expect(until(PATIENCE, lambda: (mine("live") or row)[4:] != row[4:]), "no byte was counted")
        list_.wait_state("^1 alive$")
        page.picture("sessions")
        view.type("exit 6")
        view.wait_state("exit code 6")
        ended = until(PATIENCE, lambda: mine("ended"))
        expect(ended, f"the session is not among {cells('ended')}")
        equal(ended[6:8], ["1000", "exit code 6"], "close code and outcome")
        list_.wait_state("^0 alive$")
        page.picture("sessions-ended")


def dark(browser, server):
    with browser.open(server) as page:
        view = page.view("exec")
        view.connected()
        page.tab.emulate_media(color_scheme="dark")
        ground = "getComputedStyle(document.querySelector('.xterm-scrollable-element')).backgroundColor"
        found = until(PATIENCE, lambda: "22, 24, 29" in page.tab.evaluate(ground))
        expect(found, page.tab.evaluate(ground))
        view.type("ls --color=always -l /")
        view.answers(4)
        page.picture("dark")


def phone(browser, server):
    with browser.open(server, has_touch=True, is_mobile=True) as page:
        page.tab.set_viewport_size({"width": 390, "height": 760})
        view = page.view("exec")
        view.connected()
        view.answers(5)
        wide = page.tab.evaluate("document.documentElement.scrollWidth")
        expect(wide <= 390, f"the page is {wide} pixels wide")
        view.type("sleep 1000")
        view.find(".keys button:has-text('Ctrl-C')").tap()
        view.type("echo code-$?")
        view.wait_row("code-130")
        page.picture("phone")


def drawn(browser, server):
    with browser.open(server) as page:
        page.tab.set_viewport_size({"width": 820, "height": 440})
        view = page.view("exec")
        view.connected()
        view.answers(1)
        prompt = "demo$"
        view.type(f"PS1='{prompt} '; clear")
        for line in ["stty size", "ls --color=always /usr", "sleep 1000", "echo $?"]:
            expect(until(PATIENCE, lambda: [row for row in view.rows() if row][-1] == prompt), f"{view.rows()}")
            view.type(line)
            if "sleep" in line:
                view.interrupt()
        view.wait_row("130")
        page.tab.screenshot(path=PICTURE)
