"""The flood again, in a browser of another maker, over WebDriver BiDi."""

import json
import re
import shutil
import subprocess
import tempfile

import flood
import kubectls
import pypi
from harness import Failure, expect, short, stats, until
from page import PATIENCE, resident

ENTER = "\ue007"
CONTROL = "\ue009"


def checks(report, server, strict):
    if not kubectls.need("firefox-esr", "firefox-esr"):
        raise SystemExit("Firefox cannot be installed here")
    pypi.need("websockets==17.4")

    def run():
        with Firefox() as firefox:
            firefox.open(server.url, flood.WATCH)
            expect("WebSocketStream" not in firefox.evaluate("Object.getOwnPropertyNames(window).join()"), "it has one")
            return flood.flooded(firefox, firefox, server, strict)

    report.check("Firefox: a flood, then Ctrl-C", run)


class Firefox:
    """Firefox without a window, with the page in its one tab."""

    # Of all its processes, whose shared memory counts for each.
    growth = 400 << 20

    def __enter__(self):
        from websockets.sync.client import connect

        self.profile = tempfile.TemporaryDirectory()
        self.log = tempfile.NamedTemporaryFile()
        self.process = subprocess.Popen(
            [
                shutil.which("firefox-esr"), "--headless", "--no-remote", "--profile", self.profile.name,
                "--remote-debugging-port", "0", "about:blank",
            ],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )
        address = until(PATIENCE, lambda: re.search(r"BiDi listening on (ws://\S+)", self.said()))
        expect(address, f"Firefox does not listen: {short(self.said())}")
        self.socket = connect(f"{address[1]}/session", max_size=None)
        self.number = 0
        self.call("session.new", capabilities={})
        self.context = self.call("browsingContext.getTree")["contexts"][0]["context"]
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.profile.cleanup()

    def said(self):
        with open(self.log.name) as log:
            return log.read()

    def call(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv(timeout=PATIENCE))
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise Failure(f"{method}: {answer['error']}: {answer['message']}")
                return answer["result"]

    def open(self, url, script):
        self.call("script.addPreloadScript", functionDeclaration=f"() => {{ {script} }}")
        self.call("browsingContext.navigate", context=self.context, url=f"{url}/", wait="complete")
        state = "document.querySelector('#exec .state')?.textContent ?? ''"
        expect(until(PATIENCE, lambda: self.evaluate(state).startswith("connected")), self.evaluate(state))

    def evaluate(self, script):
        answer = self.call(
            "script.evaluate", expression=script, target={"context": self.context}, awaitPromise=True
        )
        expect(answer["type"] == "success", f"{script}: {answer}")
        return answer["result"]["value"]

    def press(self, *keys):
        """Presses keys together, and releases them."""
        down = [{"type": "keyDown", "value": key} for key in keys]
        up = [{"type": "keyUp", "value": key} for key in reversed(keys)]
        source = {"type": "key", "id": "keyboard", "actions": down + up}
        self.call("input.performActions", context=self.context, actions=[source])

    # Of a view.

    def type(self, text):
        for key in text + ENTER:
            self.press(key)

    def interrupt(self):
        self.press(CONTROL, "c")

    def answers(self, number):
        self.type(f"echo mark-$(({number}+0))")
        rows = "[...document.querySelectorAll('#exec .xterm-rows > div')].map((row) => row.textContent.trim()).join('\\n')"
        # It may follow a prompt that came late.
        answer = re.compile(rf"^(# )?mark-{number}$", re.M)
        found = until(PATIENCE, lambda: answer.search(self.evaluate(rows)))
        expect(found, f"no answer: {short(self.evaluate(rows))}")

    # Of a browser.

    def memory(self):
        family = {self.process.pid}
        parents = [(pid, int(fields[1])) for pid, fields in stats()]
        while more := {pid for pid, parent in parents if parent in family} - family:
            family |= more
        return sum(map(resident, family))
