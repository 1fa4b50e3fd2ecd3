"""An exec by the official Python client."""

import time

import pypi
import secure
from harness import expect

LIBRARY = "kubernetes==37.0.2"


def load():
    """Imports the client before there are threads, because a package is installed once."""
    pypi.need(LIBRARY)
    import kubernetes.stream  # noqa: F401


def pods(server):
    """Returns a new client, because opening a session changes it for a moment."""
    from kubernetes import client

    configuration = client.Configuration(host=server.url)
    configuration.proxy = None
    if server.scheme == "https":
        configuration.ssl_ca_cert = str(server.identity.cert)
        configuration.api_key["authorization"] = f"Bearer {secure.TOKEN}"
    return client.CoreV1Api(client.ApiClient(configuration))


def begin(server, command, stdin=False):
    """Opens a session."""
    from kubernetes import stream

    return stream.stream(
        pods(server).connect_get_namespaced_pod_exec, "demo", "default", container="main",
        command=command, stdin=stdin, stdout=True, stderr=True, tty=False,
        binary=True, _preload_content=False,
    )


def read_all(session, rate):
    """Reads all of stdout at so many bytes a second; returns it and the exit code."""
    receive = session.sock.recv_data_frame

    def slowly(*arguments):
        opcode, frame = receive(*arguments)
        time.sleep(len(frame.data) / rate)
        return opcode, frame

    session.sock.recv_data_frame = slowly
    session.run_forever()
    # The code first, because `read_all` drops the data of the other channels.
    code = session.returncode
    return session.read_all(), code


def write_always(session, piece, patience):
    """Writes stdin until the session is over, and returns the exit code."""
    deadline = time.monotonic() + patience
    while session.is_open():
        expect(time.monotonic() < deadline, f"it still runs after {patience} s")
        session.write_stdin(piece)
        session.update(timeout=0)
    return session.returncode


def forwarded(server, port):
    """Returns a socket whose other end is that port of the pod; keep both."""
    from kubernetes import stream

    forward = stream.portforward(
        pods(server).connect_get_namespaced_pod_portforward, "demo", "default", ports=str(port)
    )
    stream_of_port = forward.socket(port)
    stream_of_port.setblocking(True)
    return forward, stream_of_port
