"""Looking for messages: where those of a run are, and what is held."""

from __future__ import annotations

from collections.abc import Sequence

from motet_redis.bells import TRANSPORT
from motet_redis.client import Client

__all__ = ["Finder", "all_receipts"]

PAGE = 500
"""Ids of one script call."""
USUAL = ("0:r1", "0:s1", "0:r2", "0:u1", "0:c1")
"""How the messages of most runs are called, after the run."""


class Finder:
    """Looks for messages of runs. Nothing is kept that leads from a run to its messages: it would cost every message.

    Where the usual names do not help, all ids are looked through; that is for whoever asks about one run.
    """

    def __init__(self, client: Client) -> None:
        self.client = client

    async def find(self, runs: Sequence[str]) -> list[str | None]:
        known = {run: [f"{run}:{usual}" for usual in USUAL] for run in runs}
        found = await self.places([name for names in known.values() for name in names])
        missing = {run for run in runs if found.keys().isdisjoint(known[run])}
        if missing:
            found |= await self.places([name for name in await self.all_ids() if run_of(name) in missing])
        of_run = {run_of(name): place for name, place in reversed(found.items())}
        return [of_run.get(run) for run in runs]

    async def places(self, ids: Sequence[str]) -> dict[str, str]:
        """Say of ids where they are, if they are here."""
        found: dict[str, str] = {}
        for first in range(0, len(ids), PAGE):
            part = ids[first : first + PAGE]
            for name, place in zip(part, await self.client.call(TRANSPORT, "where", *part), strict=True):
                if place:
                    found[name] = "parked" if place == 2 else "queued"
        if "queued" in found.values():
            for receipt, _ in await all_receipts(self.client):
                name = receipt.partition("#")[2]
                if name in found:
                    found[name] = "held"
        return found

    async def all_ids(self) -> list[str]:
        """Read the ids of all messages, a slice at a time."""
        found: list[str] = []
        cursor = "0"
        while True:
            cursor, names = await self.client.call(TRANSPORT, "ids", cursor)
            cursor = cursor.decode()
            found += [name.decode() for name in names]
            if cursor == "0":
                return found


async def all_receipts(client: Client) -> list[tuple[str, str]]:
    """Read who holds what: receipts, and the lanes of their messages; a slice at a time."""
    found: dict[str, str] = {}
    first = 0
    while True:
        names, lanes = await client.call(TRANSPORT, "receipts", first, PAGE)
        found |= {name.decode(): lane.decode() for name, lane in zip(names, lanes, strict=True)}
        if len(names) < PAGE:
            return list(found.items())
        first += PAGE


def run_of(name: str) -> str:
    return name.partition(":")[0]
