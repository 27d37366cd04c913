"""Noticing that source files have changed, by looking at them twice a second: no dependency, any file system."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

__all__ = ["Watch"]

SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})


class Watch:
    """The `.py` files below some folders; hidden folders and virtual environments are left out."""

    def __init__(self, folders: Iterable[str]) -> None:
        self.folders: tuple[str, ...] = tuple(folders)
        self.seen: dict[str, int] = self.look()

    def changed(self) -> str | None:
        """Name a file that was changed, added or removed since the last call."""
        now = self.look()
        before, self.seen = self.seen, now
        return next((path for path, _ in sorted(before.items() ^ now.items())), None)

    def look(self) -> dict[str, int]:
        """Note when each file was last changed."""
        return {entry.path: stamp for folder in self.folders for entry, stamp in sources(folder)}


def sources(folder: str) -> Iterator[tuple[os.DirEntry[str], int]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    if any(entry.name == "pyvenv.cfg" for entry in entries):
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                if entry.name[0] != "." and entry.name not in SKIPPED:
                    yield from sources(entry.path)
            elif entry.name.endswith(".py"):
                yield entry, entry.stat().st_mtime_ns
        except OSError:
            continue  # removed between the listing and the look
