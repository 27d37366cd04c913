"""How workers and their supervisor log: one line per event, as text or as JSON.

The house writes `log.info("failed task=%s run=%s", task, run)`. The text form prints that as it is; the JSON form takes
the names before the `%` as fields, so that nothing is said twice at the call.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import Any

__all__ = ["FORMATS", "LEVELS", "configure"]

LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("text", "json")

FIELD = re.compile(r"(?:(\w+)=)?%(?:[-#0 +]*\d*(?:\.\d+)?)[sdrifgx]")
USUAL = ("task", "run", "attempt", "duration", "queue")
"""Fields that a caller may also give as `extra`."""


def configure(level: str, form: str) -> None:
    """Send everything of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


class TextLines(logging.Formatter):
    """`2026-10-01 12:00:00.123 4711 INFO    started queues=default`."""

    def __init__(self) -> None:
        super().__init__(f"%(asctime)s.%(msecs)03d {os.getpid()} %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")


class JsonLines(logging.Formatter):
    """One object a line: ts, level, logger, pid, event, and the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
        }
        event, fields = structured(record)
        line |= {"event": event, **fields}
        line |= {name: getattr(record, name) for name in USUAL if name in record.__dict__}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def structured(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """Split a record into the event's words and its named values."""
    args = record.args
    template = str(record.msg)
    places = list(FIELD.finditer(template))
    if not isinstance(args, tuple) or len(places) != len(args):
        return record.getMessage(), {}
    fields: dict[str, Any] = {}
    words, end = "", 0
    for place, value in zip(places, args, strict=True):
        words += template[end : place.start()]
        end = place.end()
        if place[1]:
            fields[place[1]] = value
        else:
            words += place[0] % (value,)
    return " ".join((words + template[end:]).replace("%%", "%").split()).rstrip(" :,"), fields
