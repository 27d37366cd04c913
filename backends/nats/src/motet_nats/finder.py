"""Looking for messages: where those of a run are, and how many a queue has."""

from __future__ import annotations

import asyncio
from typing import Any

from motet.ports import QueueInfo
from motet_nats.client import Client
from motet_nats.names import consumer, lane_in, lane_of, plain
from motet_nats.streams import Streams

__all__ = ["Finder"]

AGREED = (0.02,) * 5
"""Seconds between looks at what a cluster counts, until it has heard of all that it stores; work may never let it."""
LISTED = 10_000
"""Parked messages that are counted in one listing; more are counted queue by queue."""


class Finder:
    """Looks for messages."""

    def __init__(self, client: Client, streams: Streams) -> None:
        self.client = client
        self.streams = streams

    async def find(self, run: str) -> str | None:
        """Say where a message of a run is."""
        names = self.client.names
        subjects = await self.streams.subjects(names.messages, names.of_run(run))
        for subject in sorted(subjects):
            stored = await self.streams.last(names.messages, subject)
            if stored is None:
                continue
            if subject.split(".")[5] == "d":
                return "parked"
            # What was delivered and is still there is held: an acknowledgement removes, giving back makes another.
            return "held" if stored.sequence <= await self._delivered(consumer(lane_in(subject))) else "queued"
        return None

    async def _delivered(self, name: str) -> int:
        """Say up to which sequence a consumer has delivered; 0 when somebody has removed it."""
        info = await self.streams.consumer(self.client.names.messages, name)
        return 0 if info is None else int(info["delivered"]["stream_seq"])

    async def consumers(self) -> list[dict[str, Any]]:
        """List the consumers of all lanes, with what they count."""
        found: list[dict[str, Any]] = []
        while True:
            answer = await self.streams.asked(f"CONSUMER.LIST.{self.client.names.messages}", {"offset": len(found)})
            part: list[dict[str, Any]] = answer.get("consumers") or []
            found += part
            if not part or len(found) >= answer["total"]:
                return found

    async def counted(self) -> list[dict[str, Any]]:
        """List the consumers as `consumers` does, if it may be when they count what their stream does.

        Of several servers one takes a message in and another one hands it out, which hears of it later.
        """
        names = self.client.names
        found = await self.consumers()
        for pause in () if self.streams.direct else AGREED:
            stored = await self.streams.count(names.messages, f"{names.letters}.*.*.q.>")
            if stored == sum(info["num_pending"] + info["num_ack_pending"] for info in found):
                break
            await asyncio.sleep(pause)
            found = await self.consumers()
        return found

    async def queues(self, paused: set[str]) -> list[QueueInfo]:
        """Count the messages of each queue (T15)."""
        counts: dict[str, list[int]] = {queue: [0, 0, 0] for queue in paused}
        for info in await self.counted():
            lane = lane_of(info["name"])
            if lane is not None:
                count = counts.setdefault(lane.queue, [0, 0, 0])
                count[0] += info["num_pending"]
                count[1] += info["num_ack_pending"]
        await self._count_parked(counts)
        return [
            QueueInfo(queue, ready, held, parked, queue in paused)
            for queue, (ready, held, parked) in sorted(counts.items())
            if ready or held or parked or queue in paused
        ]

    async def _count_parked(self, counts: dict[str, list[int]]) -> None:
        names = self.client.names
        parked = f"{names.letters}.*.*.d.>"
        total = await self.streams.count(names.messages, parked)
        if 0 < total <= LISTED:
            for subject in await self.streams.subjects(names.messages, parked):
                counts.setdefault(plain(subject.split(".")[-4]), [0, 0, 0])[2] += 1
        elif total:
            for queue, count in counts.items():
                count[2] = await self.streams.count(names.messages, names.in_queue("d", queue))
