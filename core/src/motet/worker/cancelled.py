"""Which scopes are cancelled: a log of the last hour, followed by every worker (H6)."""

from __future__ import annotations

from collections import deque

from motet.canvas.plan import Plan
from motet.message import Place
from motet.ports import Store
from motet.program import Flag

__all__ = ["CancelledScopes"]

KEPT = 100_000


class CancelledScopes:
    """The flags seen so far; a message of a run in `runs` is looked at more closely."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.runs: dict[str, list[Flag]] = {}
        self.order: deque[str] = deque()
        self.cursor: str | None = None

    async def follow(self) -> list[Flag]:
        """Read what is new."""
        self.cursor, flags = await self.store.flags(self.cursor)
        for flag in flags:
            self.runs.setdefault(flag.run, []).append(flag)
            self.order.append(flag.run)
        while len(self.order) > KEPT:
            self.runs.pop(self.order.popleft(), None)
        return flags

    def covers(self, plan: Plan, place: Place) -> bool:
        """Say whether a node, or one around it, is in a cancelled scope."""
        flags = self.runs.get(plan.run, ())
        return any(
            flag.segment == each.segment and flag.first <= each.number <= flag.last
            for each in (place, *plan.above(place))
            for flag in flags
        )
