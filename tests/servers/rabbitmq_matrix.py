"""The RabbitMQ servers that the suite is run on by `--matrix`: the one of this machine, and Debian 13's 4.0.

`python tests/servers/rabbitmq_matrix.py --into .nox/servers` brings what is missing there, and writes rabbitmq.json,
the list that MOTET_TEST_RABBITMQ_SERVERS takes. The newer one needs a newer Erlang and a newer libc: it lives in a
Debian of its own, which root makes with debootstrap, announced, unless MOTET_TEST_INSTALL is 0 (120 MB, a minute).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import debian
from rabbitmq_server import DEBIAN, PACKAGE, NoServer, find

SUITE, LINE = "trixie", "4.0"
VERSIONED = re.compile(r"rabbitmq_server-(\d+\.\d+)")


def main() -> int:
    """Bring the servers, and write the list."""
    parser = argparse.ArgumentParser(description="Bring the RabbitMQ servers of the matrix.")
    parser.add_argument("--into", type=Path, default=Path(".nox/servers"), help="the folder of their folders")
    into: Path = parser.parse_args().into.resolve()
    found = [each for each in (ours(), newer(into)) if each]
    (into / "rabbitmq.json").write_text(f"{json.dumps(found, indent=1)}\n", encoding="utf-8")
    return 0


def ours() -> dict[str, str]:
    """The one of this machine, or nothing."""
    try:
        program = find()
    except NoServer as none:
        print(none)
        return {}
    return entry(program, line(program), "")


def line(program: str = "") -> str:
    """The beginning of a program's version, as its path says it."""
    said = VERSIONED.search(str(Path(program or find()).resolve()))
    return said[1] if said else ""


def newer(into: Path) -> dict[str, str]:
    """The one in a Debian of its own, which is made on first use; nothing where that cannot be."""
    root = into / f"debian-{SUITE}"
    if not (root / "complete").exists():
        if os.getuid() or not (shutil.which("debootstrap") or debian.install("debootstrap")):
            print(f"there is no RabbitMQ {LINE}: it needs root, and Debian's debootstrap; the matrix does without")
            return {}
        print(f"making a Debian with RabbitMQ {LINE} in {root} (once)", flush=True)
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGE}", SUITE, str(root)], check=True)
        (root / "complete").touch()
    if not (root / DEBIAN.lstrip("/")).is_symlink():
        sys.exit(f"{root} has no {DEBIAN}: remove it, and start again")
    return entry(DEBIAN, LINE, str(root))


def entry(program: str, line: str, root: str) -> dict[str, str]:
    """An element of the list."""
    return {"name": f"rabbitmq-{line or 'found'}", "program": program, "line": line, "root": root}


if __name__ == "__main__":
    sys.exit(main())
