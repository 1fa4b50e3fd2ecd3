"""A browser's token: it cannot set a header, and offers it among its subprotocols."""

import base64
import re
import secrets
import tempfile
from pathlib import Path

import http2
import reading
from exchange import refusal, target, told, upgraded
from harness import Server, equal, expect
from wsclient import BY_NAME, STDOUT, Client, Outcome

PREFIX = "base64url.bearer.authorization.k8s.io."
# With all values of 6 bits, so that the other two letters of base64url occur too.
TOKEN = f"~~~???{secrets.token_hex(20)}"
V5 = BY_NAME["v5.channel.k8s.io"]
TRUE = target(["true"], stdout=True)


def encoded(token):
    return base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def wrong(token):
    return token[:-1] + ("0" if token[-1] != "0" else "1")


def checks(report, program):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "token"
        file.write_text(f"{TOKEN}\n")
        # Everything that any library logs.
        with Server(program, "raw-bearer", ["--token-file", file], log="trace") as server:
            check = report.check
            check("bearer: the right token", lambda: right(server))
            check("bearer: the right token, for the log", lambda: for_the_log(server))
            check("bearer: the right token, over HTTP/2", lambda: over_http2(server))
            check("bearer: what is refused", lambda: wrong_ones(server))
            check("bearer: the log of the server holds no token", lambda: unseen(server))


def right(server):
    """In one line or two, before the other offers or behind them; the answer holds none of it."""
    entry = PREFIX + encoded(TOKEN)
    for offered in ([f"{entry}, {V5.name}"], [f"{V5.name},{entry}"], [V5.name, entry]):
        with Client(server, V5, target(["echo", "hi"], stdout=True), offered=offered) as client:
            upgraded(client)
            no_token(str(client.answer.headers))
            outcome = Outcome(V5, *client.until_close())
        equal(outcome.bytes(STDOUT), b"hi\n", "stdout")
        told(V5, outcome, 0)


def for_the_log(server):
    """For an upgrade by another layer."""
    one = reading.READERS[1]
    offered = [f"{PREFIX}{encoded(TOKEN)}, {one.name}"]
    path = f"{reading.LOG_PATH}?follow=true&limitBytes=7"
    with Client(server, one, path, offered=offered) as client:
        upgraded(client)
        messages, _ = client.until_close()
    equal(reading.whole(one, messages), b"tick 1\n", "the log")


def over_http2(server):
    with http2.Connection(server) as connection:
        offered = [f"{PREFIX}{encoded(TOKEN)}, {V5.name}"]
        with http2.Stream(connection, V5, TRUE, offered) as stream:
            http2.upgraded(stream)
            told(V5, Outcome(V5, *stream.until_close()), 0)
        offered = [f"{PREFIX}{encoded(wrong(TOKEN))}, {V5.name}"]
        with http2.Stream(connection, V5, TRUE, offered) as stream:
            equal(stream.answer.status, 401, "status")


def wrong_ones(server):
    """401 for everything but one right token beside a subprotocol."""
    entry = PREFIX + encoded(TOKEN)
    for what, offered in (
        ("none", [V5.name]),
        ("a wrong one", [f"{PREFIX}{encoded(wrong(TOKEN))}, {V5.name}"]),
        ("not encoded", [f"{PREFIX}{TOKEN}, {V5.name}"]),
        ("with padding", [f"{entry}=, {V5.name}"]),
        ("two of them", [entry, f"{entry}, {V5.name}"]),
        ("nothing else", [entry]),
        ("another prefix", [f"{PREFIX.upper()}{encoded(TOKEN)}, {V5.name}"]),
    ):
        try:
            no_token(refusal(server, TRUE, offered, 401))
        except Exception as error:
            raise type(error)(f"{what}: {error}") from None


def no_token(text):
    for token in (TOKEN, wrong(TOKEN)):
        # Without the end, in which the right one and the wrong one differ.
        for form in (token[:-1], encoded(token)[:-4]):
            expect(form not in text, "the token is in what the server says")


def unseen(server):
    text = server.log()
    expect(re.search(r"^\S+\s+TRACE ", text, re.M), "the log holds no traces: nothing was tried")
    expect(text.count(V5.name) >= 3, "the sessions are not in the log: nothing was tried")
    no_token(text)
    return f"{len(text) >> 10} KiB of traces"
