"""SQLite settled op by op, under `sqlite-ordered://`: every crash point of the ordered settler, on a real file.

SQLite itself settles in one transaction. This is how a broker without transactions settles, on the store at hand.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
from broken import settler

import motet_sqlite
from motet.ports import Settings

__all__ = ["declare", "open"]

SCHEME = "sqlite-ordered"


@asynccontextmanager
async def open(url: str, settings: Settings) -> AsyncGenerator[Any]:  # noqa: A001 - its name in every backend
    async with motet_sqlite.open(url.replace(f"{SCHEME}:", "sqlite:", 1), settings) as backend:
        parts: Any = backend
        parts.capabilities = attrs.evolve(backend.capabilities, atomic=False)
        parts.settler = settler()(backend.transport, backend.store, backend.timers, backend.deadletters, backend.locks)
        yield parts


def declare(folder: Path) -> None:
    """Declare the scheme as any third party would; the folder belongs on the path."""
    info = folder / "motet_faults-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: motet-faults\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[motet.backends]\n{SCHEME} = ordered:open\n")
