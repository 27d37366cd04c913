"""Where the database is: the URL, read with care, and file systems that cannot keep SQLite's promises, refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from motet.errors import BadBackend, Rejected

__all__ = ["Location", "locate"]

SYNCHRONOUS = ("normal", "full", "off")
NETWORK = frozenset(
    (  # noqa: SIM905 - 24 lines as a list
        "9p afs beegfs ceph cifs coda davfs fuse.ceph fuse.gcsfuse fuse.glusterfs fuse.rclone fuse.s3fs fuse.sshfs "
        "gfs2 glusterfs lustre ncpfs nfs nfs4 ocfs2 orangefs smb2 smb3 smbfs"
    ).split()
)
"""File systems whose locks or shared memory do not reach other machines, where WAL corrupts (sqlite.org/wal.html)."""
MOUNTS = Path("/proc/self/mountinfo")


@attrs.frozen
class Location:
    """A database file, and how its commits reach the disk."""

    path: Path
    synchronous: str = "full"


def locate(url: str) -> Location:
    """Read `sqlite:///relative.db` or `sqlite:////absolute.db`, with `?synchronous=normal|full|off`.

    Raises:
        BadBackend: The URL says something else.
        Rejected: The directory does not exist, or is on a network file system.
    """
    parts = urlsplit(url)
    name = unquote(parts.path[1:])
    if ":memory:" in url or not name:
        raise BadBackend(f"{url}: name a file, as in sqlite:///motet.db; for state in memory use memory://")
    if parts.netloc or parts.fragment:
        raise BadBackend(f"{url}: write three slashes before a relative path and four before an absolute one")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    synchronous = options.pop("synchronous", "full").lower()
    if options:
        raise BadBackend(f"{url}: unknown option {', '.join(sorted(options))}; there is synchronous")
    if synchronous not in SYNCHRONOUS:
        raise BadBackend(f"{url}: synchronous={synchronous} must be one of {', '.join(SYNCHRONOUS)}")
    path = Path(name).absolute()
    if not path.parent.is_dir():
        raise Rejected(f"{path}: the directory {path.parent} does not exist: create it first")
    path = path.resolve()
    if (kind := file_system(path)) in NETWORK:
        raise Rejected(
            f"{path}: {kind} is a network file system, where SQLite loses data: use a local disk, or a broker"
        )
    return Location(path, synchronous)


def file_system(path: Path) -> str:
    """Name the type of the file system that holds the path; nothing where the system does not say."""
    if sys.platform != "linux" or not MOUNTS.exists():
        return ""
    best, found = -1, ""
    for line in MOUNTS.read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        mount = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        # Later lines are mounted over earlier ones of the same depth.
        if path.is_relative_to(mount) and len(mount) >= best:
            best, found = len(mount), after.split(" ", 1)[0]
    return found
