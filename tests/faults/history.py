"""What the processes of a fleet did, in their own words: one line before and one after each task body.

Every process appends to a file of its own, with O_APPEND. A line is in the page cache when `write` returns, so that a
SIGKILL right after it takes nothing away; the system under test does not record itself.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import attrs

__all__ = ["History", "Journal", "Mark", "Outcome", "Run", "Shape", "State", "Step", "read"]

Event = Literal["start", "end", "fail"]
State = Literal["ok", "failed", "cancelled"]


class Mark(NamedTuple):
    """One line. `root` is the run that was submitted, and `step` a name in its shape, also where a callback runs it."""

    root: str
    step: str
    node: str
    attempt: int
    event: Event
    pid: int
    at: float
    value: Any = None
    """What the body was given, at its start; what it came to, at its end."""


class Outcome(NamedTuple):
    """How a node ended, as one reader saw it."""

    root: str
    node: str
    state: State
    value: Any = None


@attrs.frozen
class Step:
    """A body that a run is made of. It begins after those before it have ended, and is fed by one of them."""

    after: tuple[str, ...] = ()
    fed: str = ""
    must: bool = True
    """Whether it must run when the run ends as it should; a member that `fail_fast` stops need not."""
    never: bool = False


@attrs.frozen
class Shape:
    """What a run is, so that its history can be judged."""

    steps: Mapping[str, Step]
    states: tuple[State, ...] = ("ok",)
    value: Any = None
    of: str = ""
    """The step whose value the run's is, where chance decides it."""


@attrs.frozen
class Run:
    """A submit, as its client saw it."""

    id: str
    shape: Shape
    accepted: bool = True
    cancelled: float | None = None
    """When `cancel` had returned."""


@attrs.frozen
class History:
    """Everything that is judged. `losses` are leases that ran out under a worker that lived."""

    runs: Mapping[str, Run]
    marks: tuple[Mark, ...]
    outcomes: tuple[Outcome, ...]
    kills: int = 0
    losses: int = 0
    woken: Mapping[int, float] = attrs.field(factory=dict[int, float])
    """When a process that was frozen went on: what happened meanwhile it could not see."""
    slack: float = 0.0
    """How much later than asked for the machine woke who slept: on a busy one a second is longer."""
    held: int = 8
    """How many messages one worker holds at most: those it runs, and those whose end it is settling."""


class Journal:
    """Where a process writes."""

    def __init__(self, folder: Path) -> None:
        flags = os.O_APPEND | os.O_CREAT | os.O_WRONLY
        self._file = os.open(folder / f"{os.getpid()}.jsonl", flags, 0o600)

    def note(self, step: str, node: str, attempt: int, event: Event, value: Any = None) -> None:
        """Write one line; `step` is the run's id and the name in its shape, with a slash between."""
        root, _, name = step.partition("/")
        mark = Mark(root, name, node, attempt, event, os.getpid(), time.monotonic(), value)
        os.write(self._file, json.dumps(mark).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


def read(lines: Iterable[str]) -> Iterator[Mark]:
    """Read lines."""
    for line in lines:
        yield Mark(*json.loads(line))
