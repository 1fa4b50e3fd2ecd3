"""An exec by the official Python client."""

import time

import pypi
from harness import expect

LIBRARY = "kubernetes==37.0.2"


def load():
    """Before threads: an import is slow, and a package is installed once."""
    pypi.need(LIBRARY)
    import kubernetes.stream  # noqa: F401


def begin(server, command, stdin=False):
    """A session, open."""
    from kubernetes import client, stream

    configuration = client.Configuration(host=server.url)
    configuration.proxy = None
    pods = client.CoreV1Api(client.ApiClient(configuration))
    return stream.stream(
        pods.connect_get_namespaced_pod_exec, "demo", "default", container="main",
        command=command, stdin=stdin, stdout=True, stderr=True, tty=False,
        binary=True, _preload_content=False,
    )


def read_all(session, rate):
    """Everything on stdout, frame by frame, at so many bytes a second; the exit code."""
    receive = session.sock.recv_data_frame

    def slowly(*arguments):
        opcode, frame = receive(*arguments)
        time.sleep(len(frame.data) / rate)
        return opcode, frame

    session.sock.recv_data_frame = slowly
    session.run_forever()
    # The code first: `read_all` forgets what came on the other channels.
    code = session.returncode
    return session.read_all(), code


def write_always(session, piece, patience):
    """stdin until the session is over; the exit code."""
    deadline = time.monotonic() + patience
    while session.is_open():
        expect(time.monotonic() < deadline, f"it still runs after {patience} s")
        session.write_stdin(piece)
        session.update(timeout=0)
    return session.returncode
