"""Python packages that a check needs, kept under target/."""

import importlib.util
import os
import shutil
import subprocess
import sys

import kubectls
from harness import WORK, say


def need(requirement):
    """Puts a package on the path, and installs it if it is missing."""
    folder = WORK / requirement.replace("==", "-")
    done = folder / ".done"
    if not done.exists():
        say(f"installing {requirement}")
        shutil.rmtree(folder, ignore_errors=True)
        if not importlib.util.find_spec("pip"):
            kubectls.need("pip3", "python3-pip")
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            + ["--target", str(folder), requirement],
            check=True, stdin=subprocess.DEVNULL, env=dict(os.environ, PIP_ROOT_USER_ACTION="ignore"),
        )
        done.touch()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
