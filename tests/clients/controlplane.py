"""etcd and kube-apiserver, built from their Go modules, and a cluster made of them."""

import http.client
import json
import re
import socket
import ssl
import subprocess
from pathlib import Path

import golang
import secure
from harness import WORK, Failure, Reachable, expect, short, until

KUBERNETES = "v1.37.2"
ETCD = "v3.7.3"
NODE = "this-machine"
# It takes five seconds on an idle machine.
READY = 120

API_SERVER_MAIN = """package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
"""

# On a free port, which it prints, and without fsync.
ETCD_MAIN = """package main

import (
	"fmt"
	"log"
	"net/url"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
)

func main() {
	free := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	config := embed.NewConfig()
	config.Dir = os.Args[1]
	config.LogLevel = "error"
	config.UnsafeNoFsync = true
	config.ListenClientUrls, config.AdvertiseClientUrls = free, free
	config.ListenPeerUrls, config.AdvertisePeerUrls = free, free
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		log.Fatal(err)
	}
	<-etcd.Server.ReadyNotify()
	fmt.Printf("listening on http://%s\\n", etcd.Clients[0].Addr())
	log.Fatal(<-etcd.Err())
}
"""


def etcd():
    """Returns the path of an etcd, kept under target/; None if it cannot be built."""
    binary = WORK / f"go-etcd-{ETCD}" / "etcd"
    if binary.exists():
        return binary
    built = golang.build(binary, ETCD_MAIN, [f"go.etcd.io/etcd/server/v3 {ETCD}"])
    return binary if built else None


def api_server():
    """Returns the path of a kube-apiserver, kept under target/ too; None if it cannot be built.

    The first build takes nine minutes of a processor; the program has 170 MB.
    """
    binary = WORK / f"go-apiserver-{KUBERNETES}" / "kube-apiserver"
    if binary.exists():
        return binary
    parts = staged()
    if not parts:
        return None
    release = KUBERNETES.replace("v1.", "v0.", 1)
    built = golang.build(
        binary,
        API_SERVER_MAIN,
        [f"k8s.io/kubernetes {KUBERNETES}", f"k8s.io/component-base {release}"],
        [f"{part} => {part} {release}" for part in parts],
        version=KUBERNETES,
    )
    return binary if built else None


def staged():
    """The modules that are folders of the `k8s.io/kubernetes` repository, by its go.mod.

    A `replace` of a dependency counts for nothing, so ours has to name them.
    """
    found = golang.download("k8s.io/kubernetes", KUBERNETES)
    if not found:
        return []
    with open(found["GoMod"]) as module:
        lines = [line.split() for line in module]
    return [line[0] for line in lines if len(line) > 2 and line[2].startswith("./staging/")]


class ControlPlane(Reachable):
    """An API server with one node and one pod, `demo`, whose kubelet can be changed.

    It speaks TLS and wants a token; `access` is what a kubectl is told of both.
    """

    scheme = "https"

    def __init__(self, etcd, api_server, folder):
        self.programs = (etcd, api_server)
        self.folder = Path(folder)
        self.identity = secure.Identity(folder)
        self.access = self.identity.access
        self.processes = []
        self.log_path = WORK / "apiserver.log"

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # The API server first: without its etcd it does not end.
        for process in reversed(self.processes):
            process.kill()
            process.wait()

    def start(self):
        etcd, api_server = self.programs
        with open(WORK / "etcd.log", "w+b") as log:
            self.run([etcd, self.folder / "etcd"], log)
            told = until(READY, lambda: re.search(r"http://\S+", Path(log.name).read_text()))
        expect(told, f"etcd does not listen: {log.name}")
        # It does not accept port 0: this port was free a moment ago.
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = "127.0.0.1:%d" % free.getsockname()[1]
        tokens = self.folder / "tokens.csv"
        tokens.write_text(f"{secure.TOKEN},admin,1,system:masters\n")
        cert, key = self.identity.cert, self.identity.key
        with open(self.log_path, "wb") as log:
            self.run(
                [
                    api_server, f"--etcd-servers={told.group()}",
                    f"--secure-port={self.host_port[1]}", "--bind-address=127.0.0.1",
                    "--advertise-address=127.0.0.1",
                    f"--tls-cert-file={cert}", f"--tls-private-key-file={key}",
                    "--service-account-issuer=https://kubernetes.default.svc",
                    f"--service-account-key-file={cert}",
                    f"--service-account-signing-key-file={key}", f"--token-auth-file={tokens}",
                    "--authorization-mode=AlwaysAllow",
                    "--disable-admission-plugins=ServiceAccount",
                    "--service-cluster-ip-range=10.0.0.0/24",
                    "--kubelet-preferred-address-types=InternalIP",
                    "--endpoint-reconciler-type=none",
                ],
                log,
            )
        ready = until(READY, self.has_a_namespace, 0.2)
        expect(ready, f"kube-apiserver is not ready: {self.log_path}")
        self.populate()

    def run(self, arguments, log):
        self.processes.append(
            subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        )

    def has_a_namespace(self):
        expect(self.processes[-1].poll() is None, f"kube-apiserver has ended: {self.log_path}")
        try:
            self.ask("GET", "/api/v1/namespaces/default")
        except (OSError, Failure):
            return False
        return True

    def populate(self):
        """Registers a node, and the pod on it."""
        self.ask("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
        self.ask("POST", "/api/v1/namespaces/default/pods", {
            "metadata": {"name": "demo"},
            "spec": {
                "nodeName": NODE,
                "containers": [{"name": "main", "image": "this-machine", "stdin": True}],
            },
        })
        self.ask("PATCH", "/api/v1/namespaces/default/pods/demo/status", {"status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "main", "image": "this-machine", "imageID": "", "ready": True,
                "restartCount": 0, "state": {"running": {"startedAt": "2024-01-01T00:00:00Z"}},
            }],
        }})

    def kubelet(self, server, splices):
        """Makes this server the kubelet of the node. `splices` lets it have the WebSockets of clients."""
        host, port = server.host_port
        self.ask("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": {
            "declaredFeatures": ["ExtendWebSocketsToKubelet"] if splices else [],
            "addresses": [{"type": "InternalIP", "address": host}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }})

    def ask(self, method, path, body=None):
        """Sends one request, and returns the object in the answer."""
        context = ssl.create_default_context(cafile=str(self.identity.cert))
        connection = http.client.HTTPSConnection(*self.host_port, timeout=10, context=context)
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {secure.TOKEN}", "Content-Type": kind}
        try:
            connection.request(method, path, body and json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        expect(answer.status < 300, f"{method} {path}: {answer.status} {short(data)}")
        return json.loads(data)
