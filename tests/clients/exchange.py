"""One exec from the upgrade to the FIN, and its checks."""

import json
from urllib.parse import urlencode

from harness import EXEC_PATH, equal, expect
from wsclient import BY_NAME, NORMAL, Client, Outcome

SUCCESS = b'{"metadata":{},"status":"Success"}'
EXIT_TEXT = "command terminated with non-zero exit code: exit status {}"
EXIT_STATUS = (
    '{{"metadata":{{}},"status":"Failure",'
    '"message":"command terminated with non-zero exit code: exit status {0}",'
    '"reason":"NonZeroExitCode",'
    '"details":{{"causes":[{{"reason":"ExitCode","message":"{0}"}}]}},"code":500}}'
)


def target(command, **streams):
    query = [("container", "main")] + [("command", word) for word in command]
    query += [(name, "true" if on else "false") for name, on in streams.items()]
    return f"{EXEC_PATH}?{urlencode(query)}"


def run(server, subprotocol, command, talk=None, **streams):
    """Runs one session from the upgrade to the FIN."""
    with Client(server, subprotocol, target(command, **streams)) as client:
        upgraded(client)
        if talk:
            talk(client)
        return Outcome(subprotocol, *client.until_close())


def upgraded(client):
    """Checks the 101, header by header."""
    answer, name = client.answer, client.subprotocol.name
    equal(answer.line, "HTTP/1.1 101 Switching Protocols", "status line")
    equal(answer.all("connection"), ["Upgrade"], "Connection")
    equal(answer.all("upgrade"), ["websocket"], "Upgrade")
    equal(answer.all("sec-websocket-accept"), [client.accept], "Sec-WebSocket-Accept")
    equal(answer.all("sec-websocket-protocol"), [name] if name else [], "Sec-WebSocket-Protocol")
    allowed = {
        "connection", "upgrade", "sec-websocket-accept", "sec-websocket-protocol", "date",
    }
    others = [name for name, _ in answer.headers if name not in allowed]
    expect(not others, f"other headers in the 101: {others}")


def told(subprotocol, outcome, code):
    """Checks the exit code in the form of this subprotocol, and a Close 1000 without a reason."""
    if subprotocol.status:
        wanted = EXIT_STATUS.format(code).encode() if code else SUCCESS
    else:
        wanted = EXIT_TEXT.format(code).encode() if code else None
    equal(outcome.last_words(), wanted, "the error channel")
    equal(outcome.close, NORMAL, "payload of the Close")


def refused(server, path, offered, code):
    """Checks a refusal, which people have to be able to read."""
    refusal(server, path, offered, code)


def refusal(server, path, offered, code):
    """Checks a refusal, and returns all of it."""
    with Client(server, BY_NAME[""], path, offered=offered) as client:
        answer = client.answer
        equal(answer.status, code, "status")
        length = answer.all("content-length")
        expect(len(length) == 1, f"Content-Length: {length}")
        equal(answer.all("content-type"), ["application/json"], "Content-Type")
        body = client._take(int(length[0]))
        status = json.loads(body)
        seen = (status["kind"], status["apiVersion"], status["status"], status["code"])
        equal(seen, ("Status", "v1", "Failure", code), "Status")
        return f"{answer.line}\n{answer.headers}\n{body.decode()}"
