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
            self._weigh(run, known)
        else:
            self.kept.move_to_end(run)
            if known.size != self.sizes[run]:  # another term took a place in it
                self._weigh(run, known)
        return known

    def _weigh(self, run: str, plan: Plan) -> None:
        """Note how much a plan holds, and let go of those used least recently.

        Whoever works with one keeps it whole; the next gets a new one.
        """
        if self.kept.get(run) is not plan:
            return
        self.size += plan.size - self.sizes.get(run, 0)
        self.sizes[run] = plan.size
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
            self._weigh(plan.run, plan)
        finally:
            if self.loading.get(plan.run) is loaded:
                del self.loading[plan.run]
            loaded.set()
