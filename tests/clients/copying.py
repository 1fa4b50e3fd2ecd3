"""`kubectl cp`, both ways: a tree of many small files, and one large file.

The pod is this machine, so that what arrived can be looked at beside kubectl.
"""

import os
import random
import shutil
from pathlib import Path

from harness import equal, expect, short
from session import MIB, PATIENCE, hash_of, random_file

# The warning of tar in the pod for an absolute path, as kubectl gives it; kubectl
# prints the stderr of tar on its own stdout.
TAR_SAYS = b"tar: Removing leading `/' from member names\n"
FILES_IN_A_FOLDER = 50
# Small ones, as in a source tree; every tenth is larger than one message of 32 KiB.
SMALL, LARGE = 8 << 10, 80 << 10


class Originals:
    """The files to copy, made once for all kubectls in an empty folder."""

    def __init__(self, folder, files, mib):
        self.tree = Path(folder) / "tree"
        self.file = Path(folder) / "file"
        self.mib = mib
        self.file_hash = random_file(self.file, mib)
        choose = random.Random(files)
        for number in range(files):
            # Some names that a shell would trip over, and some empty files.
            name = ["plain", "with space", "ünïcode", "quo'te", "-dash"][number % 5]
            place = self.tree / f"folder {number // FILES_IN_A_FOLDER}" / f"{name} {number}"
            place.parent.mkdir(parents=True, exist_ok=True)
            size = choose.randrange(LARGE if number % 10 == 0 else SMALL)
            place.write_bytes(os.urandom(0 if number % 100 == 99 else size))
        self.hashes = hashes(self.tree)
        equal(len(self.hashes), files, "files made")


def hashes(folder):
    """Returns the SHA-256 of every file by its path within the folder."""
    return {
        str(path.relative_to(folder)): hash_of(path)
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def same_tree(folder, wanted):
    expect(Path(folder).is_dir(), f"{folder} is not there")
    seen = hashes(folder)
    missing = sorted(wanted.keys() - seen.keys())
    more = sorted(seen.keys() - wanted.keys())
    other = sorted(name for name in wanted.keys() & seen.keys() if wanted[name] != seen[name])
    expect(
        not (missing or more or other),
        f"{len(missing)} missing, {len(more)} too many, {len(other)} with other bytes: "
        f"{short((missing + more + other)[:3])}",
    )


def copy(session, source, target, says=b""):
    """Runs one `kubectl cp`; `says` is what tar may print."""
    session.execs += 1
    patience = 3 * PATIENCE
    status, out, err = session.finish(session.words("cp", source, target), patience=patience)
    equal((status, err), (0, b""), f"exit code and stderr (stdout {short(out)})")
    expect(out in (b"", says), f"stdout: {short(out)}")


def tree(session, originals, folder):
    """Copies there and back, and compares both sides."""
    there, back = Path(folder) / "tree-there", Path(folder) / "tree-back"
    try:
        copy(session, str(originals.tree), f"demo:{there}")
        same_tree(there, originals.hashes)
        copy(session, f"demo:{there}", str(back), TAR_SAYS)
        same_tree(back, originals.hashes)
    finally:
        shutil.rmtree(there, ignore_errors=True)
        shutil.rmtree(back, ignore_errors=True)
    return f"{len(originals.hashes)} files"


def file(session, originals, folder):
    there, back = Path(folder) / "file-there", Path(folder) / "file-back"
    try:
        copy(session, str(originals.file), f"demo:{there}")
        equal(there.stat().st_size, originals.mib * MIB, "bytes there")
        equal(hash_of(there), originals.file_hash, "hash there")
        copy(session, f"demo:{there}", str(back), TAR_SAYS)
        equal(back.stat().st_size, originals.mib * MIB, "bytes back")
        equal(hash_of(back), originals.file_hash, "hash back")
    finally:
        there.unlink(missing_ok=True)
        back.unlink(missing_ok=True)
    return f"{originals.mib} MiB"
