"""Chromium, and the page in one of its tabs."""

import os
import re
import shutil
from pathlib import Path

from harness import Failure, ROOT, expect, short, until

PICTURES = ROOT / "target" / "browser"
# Longer than anything takes on a busy machine, unless it hangs.
PATIENCE = 20
# Without these, Chromium looks for hosts of its maker, and for a GPU.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--enable-precise-memory-info",
]


class Browser:
    """Chromium without a window."""

    # What a page may use more in a flood: 5000 lines that can be scrolled to, and garbage.
    growth = 160 << 20

    def __enter__(self):
        from playwright.sync_api import sync_playwright

        PICTURES.mkdir(parents=True, exist_ok=True)
        self.playwright = sync_playwright().start()
        self.chromium = self.playwright.chromium.launch(
            executable_path=shutil.which("chromium"), headless=True, args=ARGUMENTS
        )
        return self

    def __exit__(self, *_):
        self.chromium.close()
        self.playwright.stop()

    def open(self, server, path="/", script=None, **options):
        """Opens a page of the server. `script` runs before its own, `options` are those of Playwright's contexts."""
        context = self.chromium.new_context(
            viewport={"width": 900, "height": 600}, color_scheme="light", **options
        )
        if script:
            context.add_init_script(script)
        return Page(context.new_page(), server, path)

    def memory(self):
        """Returns the bytes that the processes of pages use."""
        session = self.chromium.new_browser_cdp_session()
        processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
        session.detach()
        return sum(resident(one["id"]) for one in processes if one["type"] == "renderer")


def resident(pid):
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0  # gone since
    return pages * os.sysconf("SC_PAGE_SIZE")


class Page:
    """A tab with the page. As a context manager, it is closed at the end, and must not have complained."""

    def __init__(self, tab, server, path):
        self.tab = tab
        self.server = server
        self.complaints = []
        self.urls = []
        tab.set_default_timeout(PATIENCE * 1000)
        tab.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("request", lambda request: self.urls.append(request.url))
        tab.on("websocket", lambda socket: self.urls.append(socket.url))
        tab.goto(f"{server.url}{path}")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.tab.context.close()
        if kind is None:
            self.quiet()

    def quiet(self):
        expect(not self.complaints, f"the console has errors: {short(self.complaints)}")

    def view(self, name):
        return View(self, name)

    def go(self, name):
        """Changes to another view by its link."""
        self.tab.click(f"nav a[href='#{name}']")
        return self.view(name)

    def picture(self, name):
        self.tab.screenshot(path=PICTURES / f"{name}.png")


class View:
    """One of the views of the page."""

    def __init__(self, page, name):
        self.page = page
        self.tab = page.tab
        self.at = f"section#{name}"
        self.tab.wait_for_selector(self.at)

    def find(self, selector):
        return self.tab.locator(f"{self.at} {selector}")

    def state(self):
        return self.find(".state").text_content()

    def wait_state(self, pattern, seconds=PATIENCE):
        """Waits until the state of the view matches, and returns it."""
        if not until(seconds, lambda: re.search(pattern, self.state())):
            raise Failure(f"the state is {self.state()!r}, wanted {pattern!r}")
        return self.state()

    def rows(self, stream="stdout"):
        """Returns the lines that are on the screen."""
        rows = self.find(f"[data-stream={stream}] .xterm-rows > div").all_text_contents()
        return [row.replace("\xa0", " ").rstrip() for row in rows]

    def wait_row(self, wanted, stream="stdout", seconds=PATIENCE):
        """Waits for a line. It may follow the prompt of a shell that came late."""
        rows = lambda: [row.removeprefix("# ") for row in self.rows(stream)]
        if not until(seconds, lambda: wanted in rows()):
            raise Failure(f"no line {wanted!r} on {stream}: {short(self.rows(stream), 2000)}")

    def connected(self, subprotocol="v5.channel.k8s.io"):
        self.wait_state(f"^connected: {re.escape(subprotocol)}$")

    def start(self, command=None, tty=True, subprotocol=""):
        """Ends what runs, if anything does, and starts a command."""
        if self.find("[name=stop]").is_enabled():
            self.find("[name=stop]").click()
            self.wait_state("disconnected")
        if command is not None:
            self.find("[name=command]").fill(command)
            self.find("[name=tty]").set_checked(tty)
        self.find("[name=subprotocol]").select_option(subprotocol)
        self.find("[name=start]").click()

    def type(self, text):
        """Types on the keyboard, with Enter at the end."""
        self.tab.keyboard.type(text)
        self.tab.keyboard.press("Enter")

    def interrupt(self):
        self.tab.keyboard.press("Control+c")

    def evaluate(self, script):
        return self.tab.evaluate(script)

    def answers(self, number, seconds=PATIENCE):
        """Asks the shell for a line that its echo does not contain."""
        self.type(f"echo mark-$(({number}+0))")
        self.wait_row(f"mark-{number}", seconds=seconds)
