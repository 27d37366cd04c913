"""The control shard's roll: which workers there are, which queues are paused, and which lanes were ever used."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from motet.options import Lane
from motet_rabbitmq.calls import call
from motet_rabbitmq.state import State, Table

__all__ = ["PAUSES", "Roll", "read_names"]

PAUSES = "pauses"
"""The notice that says which queues are paused now."""

pack_names: Callable[[Sequence[str]], bytes] = msgspec.msgpack.Encoder().encode
read_names: Callable[[bytes], list[str]] = msgspec.msgpack.Decoder(list[str]).decode


class Beat(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a worker said last."""

    about: bytes
    until: float


class Mark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A name that is enough by itself."""

    until: None = None


class Roll:
    """Advisory, but for the pauses."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.workers: Table[Beat] = Table(state, "w", Beat)
        self.paused: Table[Mark] = Table(state, "p", Mark)
        self.lanes: Table[Mark] = Table(state, "q", Mark)

    def expired(self, kind: str, worker: str, _: str) -> None:
        """A worker has been silent."""
        self.workers.drop(worker)

    @call()
    def beat(self, worker: str, about: bytes, ttl: float) -> None:
        self.workers.put(worker, "", Beat(about, self.state.now + ttl))

    @call()
    def leave(self, worker: str) -> None:
        self.workers.drop(worker)

    @call()
    def present(self) -> list[tuple[str, bytes]]:
        now = self.state.now
        rows = sorted((name, rows[""]) for name, rows in self.workers.rows.items())
        return [(name, row.about) for name, row in rows if row.until > now]

    @call()
    def pause(self, queue: str, paused: bool) -> None:
        if paused and self.paused.get(queue) is None:
            self.paused.put(queue, "", Mark())
        elif not paused:
            self.paused.drop(queue)
        self.state.notices[PAUSES] = pack_names(sorted(self.paused.rows))

    @call()
    def pauses(self) -> list[str]:
        return sorted(self.paused.rows)

    @call()
    def enter(self, lanes: list[Lane]) -> None:
        """Note lanes that are used."""
        for lane in lanes:
            key = f"{lane.size}:{lane.priority}"
            if self.lanes.get(lane.queue, key) is None:
                self.lanes.put(lane.queue, key, Mark())

    @call()
    def known(self, queue: str | None) -> list[Lane]:
        """List the lanes of a queue, or all, in their order."""
        queues = sorted(self.lanes.rows) if queue is None else [queue]
        found = [Lane(name, *_parts(key)) for name in queues for key in self.lanes.of(name)]
        return sorted(found, key=lambda lane: (lane.queue, lane.priority, lane.size))


def _parts(key: str) -> tuple[str, int]:
    size, _, priority = key.rpartition(":")
    return size, int(priority)
