"""Plans at hand: pages are immutable, so a worker keeps those that it used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

from motet.canvas.plan import Page, PagesNeeded, Plan, page_key
from motet.errors import StateLost
from motet.ports import Store

__all__ = ["Plans"]

T = TypeVar("T")

KEPT = 64
"""Pages kept; one of 256 small calls is about 100 KiB in memory."""


class Plans:
    """Builds plans from what a message carries and from the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.kept: OrderedDict[tuple[str, str, int], tuple[Page, bytes | None]] = OrderedDict()

    def of(self, run: str, segment: str = "", inline: bytes = b"") -> Plan:
        """Return a plan that knows the page that travelled, if any.

        Raises:
            DecodeError: The page is none.
        """
        plan = Plan(run)
        if inline:
            plan.add(segment, 0, inline)
        return plan

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
        """Add pages to a plan."""
        for segment, number in keys:
            at = (plan.run, segment, number)
            known = self.kept.get(at)
            if known is None:
                (raw,) = await self.store.get([page_key(*at)])
                if raw is None:
                    raise StateLost(plan.run, f"page {number} of the plan")
                plan.add(segment, number, raw)
                self.kept[at] = plan.pages[segment, number], plan.inline.get(segment)
                if len(self.kept) > KEPT:
                    self.kept.popitem(last=False)
                continue
            self.kept.move_to_end(at)
            page, inline = known
            plan.pages[segment, number] = page
            if inline is not None:
                plan.inline[segment] = inline
