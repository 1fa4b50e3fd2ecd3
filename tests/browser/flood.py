"""A command that prints as fast as it can: the page's memory is bounded, and its user is heard."""

import json
import time

from harness import Failure, expect
from page import PATIENCE, resident

MIB = 1 << 20
SECONDS = 5
# src/acknowledge.rs.
WINDOW = 256 * 1024
SERVER_GROWTH = 16 * MIB
# On a machine that is not busy: seconds from Ctrl-C to a shell that answers, and seconds that the
# page may be busy with one task.
HEARD = 1.5
FROZEN = 1.0

# Counts what a page receives and what it acknowledges, and looks for pauses of its loop.
WATCH = """
window.flood = { received: 0, acknowledged: 0, most: 0, longest: 0 };
const Plain = WebSocket;
window.WebSocket = class extends Plain {
    constructor(...args) {
        super(...args);
        this.addEventListener("message", ({ data }) => {
            flood.received += data.byteLength - 1;
            flood.most = Math.max(flood.most, flood.received - flood.acknowledged);
        });
    }
    send(data) {
        if (data[0] === 5) flood.acknowledged += new DataView(data.buffer).getUint32(1);
        super.send(data);
    }
};
let last = performance.now();
setInterval(() => {
    const now = performance.now();
    flood.longest = Math.max(flood.longest, now - last);
    last = now;
}, 10);
"""


def checks(report, browser, server, strict):
    report.check(f"a flood of {SECONDS} s, then Ctrl-C", lambda: in_chromium(browser, server, strict))
    report.check("two outputs that flood", lambda: both(browser, server))


def in_chromium(browser, server, strict):
    with browser.open(server, script=WATCH) as page:
        view = page.view("exec")
        view.connected()
        return flooded(view, browser, server, strict)


def flooded(view, browser, server, strict):
    """Floods a shell. `view` types into it, and `browser` knows the memory of its pages. Unless this
    is strict, the times are only those that nothing takes unless it hangs."""
    view.answers(1)
    page_before = browser.memory()
    server_before = resident(server.process.pid)
    view.type("yes")
    page_most = server_most = 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(0.25)
        page_most = max(page_most, browser.memory())
        server_most = max(server_most, resident(server.process.pid))
    flood = json.loads(view.evaluate("JSON.stringify(flood)"))

    began = time.monotonic()
    view.interrupt()
    view.answers(2)
    heard = time.monotonic() - began

    expect(flood["received"] > 4 * WINDOW, f"only {flood['received']} bytes came")
    expect(flood["most"] <= WINDOW, f"{flood['most']} bytes were unacknowledged")
    note = (
        f"{flood['received'] / MIB / SECONDS:.1f} MiB/s, at most {flood['most'] // 1024} KiB unacknowledged; "
        f"page +{(page_most - page_before) / MIB:.0f} MiB, "
        f"server +{(server_most - server_before) / MIB:.1f} MiB; "
        f"Ctrl-C {heard:.2f} s; longest pause {flood['longest']:.0f} ms"
    )
    heard_within, frozen_within = (HEARD, FROZEN) if strict else (PATIENCE, PATIENCE)
    wrong = (
        page_most - page_before > browser.growth
        or server_most - server_before > SERVER_GROWTH
        or heard > heard_within
        or flood["longest"] > frozen_within * 1000
    )
    if wrong:
        raise Failure(note)
    return note


def both(browser, server):
    """One window for both, and no deadlock between them."""
    with browser.open(server) as page:
        view = page.view("exec")
        view.connected()
        view.start("sh -c 'seq 100000 & seq 100000 >&2; wait; echo end; echo end >&2'", tty=False)
        view.wait_state("exit code 0")
        view.wait_row("end")
        view.wait_row("end", "stderr")
