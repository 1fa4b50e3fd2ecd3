"""Builds a program from published Go modules; kept under target/."""

import json
import os
import shutil
import subprocess
import time

from harness import say

ENVIRONMENT = dict(os.environ, GOFLAGS="-mod=mod", GOWORK="off", CGO_ENABLED="0")


def here():
    return shutil.which("go") is not None


def build(binary, main, requirements, replacements=(), version=None):
    """Builds `main` at `binary`, in the folder of that file; returns whether that worked.

    `requirements` and `replacements` are lines of a go.mod; `version` is what a
    program of Kubernetes says of itself.
    """
    folder = binary.parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.go").write_text(main)
    lines = [f"module {binary.name}", "go 1.26.0"]
    lines += [f"require {line}" for line in requirements]
    lines += [f"replace {line}" for line in replacements]
    (folder / "go.mod").write_text("\n".join(lines) + "\n")
    flags = "-s -w"
    if version:
        # `version` prints the first, the handshake's User-Agent has the second.
        for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"]:
            flags += f" -X {package}.gitVersion={version}"
    started = time.monotonic()
    built = subprocess.run(
        ["go", "build", "-trimpath", "-o", binary.name, "-ldflags", flags, "."],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
    )
    if built.returncode:
        say(f"{folder.name} could not be built:")
        say(built.stdout.decode("utf-8", "replace")[-2000:])
        return False
    say(f"built {folder.name} in {time.monotonic() - started:.0f} s")
    return True


def download(module, version):
    """Returns what Go knows of a published module, which is fetched if need be; or None."""
    asked = subprocess.run(
        ["go", "mod", "download", "-json", f"{module}@{version}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env=ENVIRONMENT,
    )
    if asked.returncode:
        say(f"{module} could not be fetched: {asked.stdout.decode()[-300:]}")
        return None
    return json.loads(asked.stdout)


def build_inside(module, version, folder, programs):
    """Builds programs of a module with the versions that it names; returns whether that worked.

    `programs` has the words of `go` for each package: `["build"]`, or `["test", "-c"]` for tests
    that are a program.
    """
    found = download(module, version)
    if not found:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    for package, words in programs.items():
        started = time.monotonic()
        binary = folder / package.rpartition("/")[2]
        built = subprocess.run(
            ["go", *words, "-trimpath", "-ldflags", "-s -w", "-o", str(binary), package],
            cwd=found["Dir"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # The folder of a published module cannot be written to.
            env=dict(ENVIRONMENT, GOFLAGS="-mod=readonly -buildvcs=false"),
        )
        if built.returncode:
            say(f"{binary.name} could not be built:")
            say(built.stdout.decode("utf-8", "replace")[-2000:])
            return False
        say(f"built {binary.name} in {time.monotonic() - started:.0f} s")
    return True
