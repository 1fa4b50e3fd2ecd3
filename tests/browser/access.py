"""Who is let in: pages of other origins, tokens; and a server that stops."""

import http.server
import signal
import socket
import threading

import secure
from harness import Server, equal, expect, until
from page import PATIENCE

TOKEN = "a~secret/of+this-test"
EXEC = "/api/v1/namespaces/default/pods/demo/exec?command=true&stdout=true"
DRAINED = "the server is shutting down: connect again to continue elsewhere"

# What a page of another origin can try.
ATTACK = """async (target) => {
    const told = {};
    told.socket = await new Promise((done) => {
        const socket = new WebSocket(target.ws, ["v5.channel.k8s.io"]);
        socket.onopen = () => done("open");
        socket.onclose = ({ code }) => done(code);
    });
    told.fetch = await fetch(target.http + "/sessions").then(() => "read", () => "refused");
    const frame = document.createElement("iframe");
    frame.src = target.http + "/";
    await new Promise((done) => { frame.onload = done; document.body.append(frame); });
    // A page of another origin cannot be looked into, so the refusal is looked for elsewhere.
    return told;
}"""

# How a page sends its user to another one. The new window keeps its first page alive.
LEAD = "(url) => { window.opened = open(url); }"


class Foreign:
    """A web server of somebody else on this machine."""

    def __enter__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b"<!doctype html><title>foreign</title><link rel=icon href=data:,>")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *_):
        self.server.shutdown()


def foreign(report, browser, server):
    report.check("a page of another origin is refused", lambda: refused(browser, server))
    report.check("a page of another origin leads nobody here", lambda: led(browser, server))
    report.check("a page of a name that was rebound is refused", lambda: rebound(browser, server))


def refused(browser, server):
    with Foreign() as other:
        page = browser.open(other)
        target = {"http": server.url, "ws": f"ws://{server.address}{EXEC}"}
        log = server.log_size()
        told = page.tab.evaluate(ATTACK, target)
        complaints = " ".join(page.complaints)
        page.tab.context.close()
    equal(told, {"socket": 1006, "fetch": "refused"}, "what the page got")
    expect("403" in complaints, f"framed: {complaints}")
    refusals = server.log(log).count("answers no page of another origin")
    expect(refusals >= 2, f"{refusals} refusals in the log")
    # The same, from a page of its own, works: the refusal is not for another reason.
    with browser.open(server) as page:
        page.view("exec").connected()


def led(browser, server):
    """The page would start a shell at once, and take the keys that its user types."""
    with Foreign() as other:
        page = browser.open(other)
        tab = page.tab
        with tab.context.expect_page() as opened:
            tab.evaluate(LEAD, f"{server.url}/#exec")
        opened = opened.value
        opened.wait_for_load_state()
        log = server.log_size()
        text = opened.text_content("body")
        expect("opens for no link of another page" in text, text)
        # Typed into the bar of the same window, it opens.
        opened.goto(f"{server.url}/")
        opened.wait_for_selector("#exec:not([hidden])", timeout=PATIENCE * 1000)
        expect(opened.evaluate("opener === null"), "the page has kept its opener")
        expect(until(PATIENCE, lambda: "exec" in server.log(log)), "the page has started no shell")
        tab.context.close()


def rebound(browser, server):
    """The name resolves to this machine, and says something else."""
    context = browser.chromium.new_context()
    tab = context.new_page()
    answer = tab.request.get(f"{server.url}/", headers={"Host": "evil.example"})
    status, text = answer.status, answer.text()
    context.close()
    equal(status, 403, "status")
    expect("Host is localhost" in text, text)


def with_token(report, browser, program, file):
    file.write_text(TOKEN)
    with Server(program, "browser-token", ["--token-file", file]) as server:
        report.check("a token is asked for, and a wrong one refused", lambda: asked(browser, server))


def asked(browser, server):
    page = browser.open(server)
    form = page.tab.locator("form#token")

    def why():
        return page.tab.text_content("#why") if form.is_visible() else ""

    expect(until(PATIENCE, lambda: "Unauthorized" in why()), "the page does not ask for a token")
    for wrong in ["wrong", f"{TOKEN}x", "\u00fcber"]:
        form.locator("input").fill(wrong)
        form.locator("button").click()
        expect(until(PATIENCE, lambda: "wants the bearer token" in why()), f"{wrong}: {why()!r}")
    page.picture("wrong-token")
    form.locator("input").fill(TOKEN)
    form.locator("button").click()
    view = page.view("exec")
    view.connected()
    view.answers(11)
    view = page.go("log")
    view.connected("binary.k8s.io")
    view = page.go("sessions")
    view.wait_state("^2 alive$")
    kept = page.tab.evaluate(
        "JSON.stringify([location.href, document.cookie, {...localStorage}, {...sessionStorage}, history.state])"
    )
    for place in [kept, *page.urls, server.log()]:
        expect(TOKEN not in place and "secret" not in place, f"the token is in {place}")
    # A new page of the same browser knows nothing.
    page.tab.reload()
    expect(until(PATIENCE, lambda: "Unauthorized" in why()), "the page has kept its token")
    page.tab.context.close()


def in_clear(report, browser, program, file):
    def run():
        file.write_text(TOKEN)
        with Server(program, "browser-clear", ["--token-file", file], host=own_address()) as server:
            page = browser.open(server)
            told = "this page sends a token over https only"
            expect(
                until(PATIENCE, lambda: page.tab.text_content("#trouble") == told),
                f"the page says {page.tab.text_content('#trouble')!r}",
            )
            expect(not page.tab.locator("form#token").is_visible(), "the page asks for a token")
            page.tab.context.close()

    report.check("no token is asked for over http", run)


def own_address():
    """An address of this machine that is not loopback, which a browser trusts."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Nothing is sent. The address is one of documentation.
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


def drained(report, browser, program):
    report.check("a server that stops says so", lambda: stopped(browser, program))


def stopped(browser, program):
    with Server(program, "browser-drain") as server:
        page = browser.open(server)
        view = page.view("exec")
        view.connected()
        view.answers(12)
        server.process.send_signal(signal.SIGTERM)
        equal(view.wait_state("shutting down"), DRAINED, "state")
        page.picture("drained")
        server.process.wait(PATIENCE)
        view.find("[name=start]").click()
        view.wait_state("^the server cannot be reached$")
        page.tab.context.close()


def over_tls(report, browser, program, folder):
    """HTTP/2 too, which browsers use then: for the page, and for its WebSockets."""
    def run():
        identity = secure.Identity(folder)
        with Server(program, "browser-tls", identity.arguments) as server:
            with browser.open(server, ignore_https_errors=True) as page:
                view = page.view("exec")
                view.connected()
                view.answers(13)
                protocols = page.tab.evaluate(
                    "performance.getEntriesByType('resource').map((entry) => entry.nextHopProtocol)"
                )
                equal(set(protocols), {"h2"}, "protocols")

    report.check("over TLS and HTTP/2", run)
