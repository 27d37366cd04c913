"""Plans at hand: pages are immutable, so a worker keeps those that it used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

import anyio

from motet.canvas.plan import PagesNeeded, Plan, page_key
from motet.errors import StateLost
from motet.ports import Store

__all__ = ["Plans"]

T = TypeVar("T")

KEPT = 16_384
"""Nodes kept; 256 small calls are about 100 KiB in memory."""


class Plans:
    """Builds plans from what a message carries and from the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.kept: OrderedDict[str, Plan] = OrderedDict()
        self.sizes: dict[str, int] = {}
        self.size: int = 0
        self.loading: dict[str, anyio.Event] = {}

    def of(self, run: str, segment: str = "", inline: bytes = b"") -> Plan:
        """Return a plan that knows the page that travelled, if any; else the one that others of the run use too.

        Raises:
            DecodeError: The page is none.
        """
        if inline:
            plan = Plan(run)
            plan.add(segment, 0, inline)
            return plan
        known = self.kept.get(run)
        if known is None:
            known = self.kept[run] = Plan(run)
            self._grow(run, 1)
        else:
            self.kept.move_to_end(run)
        return known

    def _grow(self, run: str, nodes: int) -> None:
        """Note that a plan holds more, and let go of those used least recently.

        Whoever works with one keeps it whole; the next gets a new one.
        """
        if run not in self.kept:
            return
        self.sizes[run] = self.sizes.get(run, 0) + nodes
        self.size += nodes
        while self.size > KEPT and self.kept:
            gone, _ = self.kept.popitem(last=False)
            self.size -= self.sizes.pop(gone)

    async def ask(self, plan: Plan, question: Callable[[Plan], T]) -> T:
        """Ask the pure core about a plan, loading pages until it can answer.

        Raises:
            StateLost: A page is neither at hand nor in the store.
        """
        while True:
            try:
                return question(plan)
            except PagesNeeded as needed:
                await self.load(plan, needed.keys)

    async def load(self, plan: Plan, keys: Sequence[tuple[str, int]]) -> None:
        """Add pages to a plan, unless another message of the run is at it: `ask` looks again."""
        shared = self.kept.get(plan.run) is plan
        if shared and (loaded := self.loading.get(plan.run)) is not None:
            await loaded.wait()
            return
        loaded = anyio.Event()
        if shared:
            self.loading[plan.run] = loaded
        try:
            pages = await self.store.get([page_key(plan.run, *key) for key in keys])
            for (segment, number), raw in zip(keys, pages, strict=True):
                if raw is None:
                    raise StateLost(plan.run, f"page {number} of the plan")
                plan.add(segment, number, raw)
            self._grow(plan.run, sum(len(plan.page(*key).nodes) for key in keys))
        finally:
            if self.loading.get(plan.run) is loaded:
                del self.loading[plan.run]
            loaded.set()
