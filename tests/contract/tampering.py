"""What saboteurs of settlements share: changing programs on their way to a memory backend that settles in one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from harness import instead

from motet.memory import MemoryBackend
from motet.ports import Entry
from motet.program import Arrive, Do, Op

__all__ = ["programming", "settling"]

replaced = msgspec.structs.replace


def settling(backend: MemoryBackend, change: Callable[[Entry], Entry]) -> None:
    """Have every entry changed before it is settled."""
    instead(backend.world, "settle_all")(lambda real, entries: real([change(entry) for entry in entries]))


def rewritten(ops: Sequence[Op], change: Callable[[Op], Sequence[Op]]) -> list[Op]:
    """Replace each op of a program, inner ones first."""
    done: list[Op] = []
    for op in ops:
        match op:
            case Do():
                done += change(Do(rewritten(op.ops, change)))
            case Arrive():
                ok, err = rewritten(op.then_ok, change), rewritten(op.then_err, change)
                done += change(replaced(op, then_ok=ok, then_err=err))
            case _:
                done += change(op)
    return done


def programming(backend: MemoryBackend, change: Callable[[Op], Sequence[Op]]) -> None:
    """Have every op of every program changed before it is carried out."""
    settling(backend, lambda entry: replaced(entry, program=rewritten(entry.program, change)))
