"""TLS and a token: client-go sends a token over TLS only, so kubectl with one is tried here."""

import re
import secrets
import socket
import ssl
import struct
import subprocess
from pathlib import Path

import copying
import kubectls
import logs
from harness import Server, equal, expect, short

# Through cat. Over TLS the processor limits it.
CAT_MIB = 8
TOKEN = secrets.token_hex(20)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, WINDOW_UPDATE = 4, 8
ENABLE_CONNECT_PROTOCOL, MAX_STREAMS, STREAM_WINDOW = 8, 3, 4
# The window of a connection before any WINDOW_UPDATE (RFC 9113, 6.9.2).
FIRST_WINDOW = 65535


class Identity:
    """A self-signed certificate for 127.0.0.1, and a token, made for each run."""

    def __init__(self, folder):
        self.cert, self.key = Path(folder) / "cert.pem", Path(folder) / "key.pem"
        self.token_file = Path(folder) / "token"
        self.token_file.write_text(f"{TOKEN}\n")
        expect(kubectls.need("openssl", "openssl"), "no openssl here to make a certificate with")
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=pod-server",
                "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", self.key, "-out", self.cert,
            ],
            check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )

    @property
    def arguments(self):
        """The options that make a server speak TLS."""
        return ["--tls-cert", self.cert, "--tls-key", self.key]

    @property
    def access(self):
        """The options of a kubectl for both."""
        return ["--certificate-authority", str(self.cert), "--token", TOKEN]


def server(program, identity):
    return Server(
        program, "kubectl-tls", [*identity.arguments, "--token-file", identity.token_file],
        identity.access,
    )


def checks(report, session, options, material, identity):
    """Checks kubectl over TLS, with the right token and without it."""
    def check(name, function, *arguments):
        report.check(f"{session.kubectl.name} TLS: {name}", lambda: function(*arguments))

    check("logs --tail", logs.tail, session)
    check("logs -f until Ctrl-C", logs.follow, session)
    check("exit code 42", session.exit_code, "exit 42", 42)
    check("stdout and stderr apart", session.apart)
    check("half-close ends wc", session.half_close)
    check("random bytes through cat", session.random_bytes, min(options.mib, CAT_MIB))
    check("cp of a tree, both ways", copying.tree, session, material.originals, material.folder)
    check("cp of a file, both ways", copying.file, session, material.originals, material.folder)
    wrong = ["--token", TOKEN[:-1] + ("0" if TOKEN[-1] != "0" else "1")]
    # It needs some identity, or kubectl asks for a name and a password on the terminal.
    none = ["--client-certificate", str(identity.cert), "--client-key", str(identity.key)]
    for name, credentials in (("a wrong token", wrong), ("no token", none)):
        for command in (["exec", "demo", "--", "echo", "hi"], ["logs", "demo"],
                        ["cp", str(identity.cert), "demo:/nowhere"]):
            check(f"{command[0]} with {name}", refused, session, identity, credentials, command)


def refused(session, identity, credentials, command):
    """kubectl fails, and prints the reason."""
    arguments = [
        str(session.kubectl.path), "--kubeconfig", "/dev/null", "--server", session.server.url,
        "--certificate-authority", str(identity.cert), *credentials, *command,
    ]
    status, out, err = session.finish(arguments)
    expect(status != 0, f"exit code 0 (stdout {short(out)})")
    expect(b"hi\n" not in out and b"tick" not in out, f"it was served: {short(out)}")
    expect(b"Unauthorized" in err, f"no reason on stderr: {short(err)}")
    return err.decode("utf-8", "replace").strip().splitlines()[-1]


def versions(server):
    """Checks that client-go used HTTP/2, because no other check here does."""
    seen = re.findall(r"log follow=\w+ http=(\S+)", server.log())
    expect("HTTP/2.0" in seen, f"logs came over {sorted(set(seen))}")
    return f"{seen.count('HTTP/2.0')} of {len(seen)}"


def no_token(server):
    expect(TOKEN not in server.log(), f"the token is in {server.log_path}")


def handshakes(report, server, identity):
    """Checks the protocols after the handshake, without a client."""
    report.check("TLS: ALPN h2 and http/1.1", lambda: alpn(server, identity))
    report.check("TLS: HTTP/2 offers CONNECT", lambda: settings(connect(server, identity, "h2")))


def connect(server, identity, *protocols):
    context = ssl.create_default_context(cafile=str(identity.cert))
    if protocols:
        context.set_alpn_protocols(list(protocols))
    plain = socket.create_connection(server.host_port, timeout=10)
    return context.wrap_socket(plain, server_hostname=server.host_port[0])


def alpn(server, identity):
    for offered, wanted in (
        (["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"), (["h2"], "h2"), ([], None),
    ):
        with connect(server, identity, *offered) as stream:
            equal(stream.selected_alpn_protocol(), wanted, f"selected of {offered}")
    with connect(server, identity) as stream:
        stream.sendall(b"GET /version HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = stream.recv(65536)
        expect(answer.startswith(b"HTTP/1.1 401 "), f"without ALPN: {short(answer)}")


def settings(stream):
    """Checks that the server offers sessions over HTTP/2, and has room for stalled ones."""
    with stream:
        stream.sendall(PREFACE + struct.pack(">IBI", SETTINGS, 0, 0))
        data = stream.makefile("rb")
        told, window = {}, FIRST_WINDOW
        # Both come first, and in any order.
        while not told or window == FIRST_WINDOW:
            head = data.read(9)
            expect(len(head) == 9, f"no settings and window: {told}, {window}")
            length, kind = int.from_bytes(head[:3], "big"), head[3]
            payload = data.read(length)
            if kind == SETTINGS and payload:
                told = {key: value for key, value in struct.iter_unpack(">HI", payload)}
            elif kind == WINDOW_UPDATE and head[5:9] == bytes(4):
                window += int.from_bytes(payload, "big")
    equal(told.get(ENABLE_CONNECT_PROTOCOL), 1, "ENABLE_CONNECT_PROTOCOL")
    wanted = told[MAX_STREAMS] * told[STREAM_WINDOW]
    expect(window >= wanted, f"a window of {window} for streams that take {wanted}")
    return f"{told[MAX_STREAMS]} streams, a window of {window} bytes"
