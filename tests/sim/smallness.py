"""Limits made small, so that workflows of a few calls meet all that large ones do: pages, parts, references."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import motet.canvas.compile
import motet.canvas.flow
import motet.canvas.plan
import motet.worker.settle

__all__ = ["sized"]

SIZES: tuple[tuple[Any, str, tuple[int, ...]], ...] = (
    (motet.canvas.flow, "DIRECT", (0, 2, 32)),
    (motet.canvas.flow, "NESTED", (0, 1, 16)),
    (motet.canvas.flow, "BY_VALUE", (100, 65536)),
    (motet.canvas.flow, "INLINE", (50, 16384)),
    (motet.canvas.compile, "INLINE", (20, 16384)),
    (motet.worker.settle, "INLINE", (50, 16384)),
    (motet.canvas.plan, "INLINE_NODES", (0, 8)),
)
FANOUTS = (2, 3, 4, 256)


@contextmanager
def sized(rng: random.Random) -> Iterator[None]:
    """Make limits small, so that small workflows meet all that large ones do."""
    before = [(module, name, getattr(module, name)) for module, name, _ in SIZES]
    before += [(module, "FANOUT", module.FANOUT) for module in FANNED]
    fanout = rng.choice(FANOUTS)
    for module, name, sizes in SIZES:
        chosen = rng.choice(sizes)
        setattr(module, name, min(chosen, fanout) if name == "INLINE_NODES" else chosen)
    for module in FANNED:
        module.FANOUT = fanout
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


FANNED: tuple[Any, ...] = (motet.canvas.plan, motet.canvas.flow, motet.canvas.compile)
