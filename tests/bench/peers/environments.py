"""One venv for each peer, made by uv under .nox/peers, from the versions of the table."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from peers.table import Peer

HOME = Path(__file__).parents[3] / ".nox" / "peers"


def python_of(peer: Peer) -> str:
    """Return the python that runs this peer; its venv is made if it is not there, or holds something else.

    Raises:
        RuntimeError: It could not be made.
    """
    if not peer.requires:
        return sys.executable
    home = HOME / (peer.module or peer.name)
    python, list_of_contents = home / "bin" / "python", home / "requires.txt"
    wanted = "\n".join((sys.version, *peer.requires))
    if list_of_contents.exists() and list_of_contents.read_text() == wanted:
        return str(python)
    uv("venv", "--clear", "--python", sys.executable, str(home))
    uv("pip", "install", "--python", str(python), *peer.requires)
    list_of_contents.write_text(wanted)
    return str(python)


def uv(*arguments: str) -> None:
    """Run uv: the one that nox names, or one on the path."""
    program = os.environ.get("BENCH_UV") or shutil.which("uv")
    if program is None:
        raise RuntimeError("there is no uv: run this as `nox -s bench`")
    done = subprocess.run((program, *arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"uv {arguments[0]} failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
