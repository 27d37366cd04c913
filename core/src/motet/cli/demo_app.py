"""The app of `motet demo`: three tasks, as a user would write them, and a history of their executions."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from pathlib import Path

from motet import Context, Motet, injected

__all__ = ["HISTORY", "app", "count", "merge", "top", "words_in"]

HISTORY = "MOTET_DEMO_HISTORY"
"""The variable that names the file where executions are noted."""

# A short lease, so that what a killed worker held comes back while you watch.
app: Motet = Motet("sqlite:///motet-demo.db", lease=1)


@app.task
def count(path: str, pause: float = 0.0, ctx: Context = injected) -> dict[str, int]:
    """Count the words of one file."""
    note(ctx)
    time.sleep(pause)
    return words_in(Path(path))


@app.task
def merge(counts: list[dict[str, int]], ctx: Context = injected) -> dict[str, int]:
    """Add the counts of all files."""
    note(ctx)
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


@app.task
def top(counts: dict[str, int], limit: int, ctx: Context = injected) -> list[tuple[str, int]]:
    """Choose the most frequent words; equals stand in the order of the alphabet."""
    note(ctx)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]


def words_in(path: Path) -> dict[str, int]:
    """Count the words of a file: three letters or more, small."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return dict(Counter(re.findall(r"[^\W\d_]{3,}", text.lower())))


def note(ctx: Context) -> None:
    """Add a line to the history. One write to a file opened for appending is whole, whoever else writes."""
    if path := os.environ.get(HISTORY):
        line = json.dumps({"node": ctx.id, "task": ctx.task, "attempt": ctx.attempt, "pid": os.getpid()}) + "\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
