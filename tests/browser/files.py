"""The hashes in the page against the files of the packages, as npm has brought them."""

import base64
import hashlib
import json
import re

from harness import equal, expect

CDN = "https://cdn.jsdelivr.net/npm/"
TAG = re.compile(r"<(?:script|link)\b[^>]*>")
NAME = re.compile(r"(?P<package>@[^/]+/[^@/]+)@(?P<version>[^/]+)/(?P<path>.+)")


def checks(report, web):
    report.check("the hashes are those of the packages", lambda: hashes(web))


def hashes(web):
    wanted = json.loads((web / "package.json").read_text())["dependencies"]
    locked = json.loads((web / "package-lock.json").read_text())["packages"]
    seen = set()
    for tag in TAG.findall((web / "index.html").read_text()):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        address = attributes.get("src") or attributes["href"]
        if not address.startswith("https:"):
            continue
        name = NAME.fullmatch(address.removeprefix(CDN))
        expect(name, f"{address} is no file of a package at {CDN}")
        package, version = name["package"], name["version"]
        equal(wanted.get(package), version, f"version of {package} in package.json")
        equal(locked[f"node_modules/{package}"]["version"], version, f"locked version of {package}")
        folder = web / "node_modules" / package
        equal(json.loads((folder / "package.json").read_text())["version"], version, f"installed {package}")
        digest = hashlib.sha384((folder / name["path"]).read_bytes()).digest()
        equal(attributes["integrity"], f"sha384-{base64.b64encode(digest).decode()}", address)
        equal(attributes["crossorigin"], "anonymous", f"crossorigin of {address}")
        seen.add(package)
    equal(seen, set(wanted), "packages of the page")
    resolved = [name for name, entry in locked.items() if "resolved" in entry]
    expect(not resolved, f"the lock file names where these come from: {resolved}")
    return f"{len(seen)} packages"
