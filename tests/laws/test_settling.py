"""Settling step by step and settling at once mean the same; a barrier is what its history says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
from hypothesis import given
from hypothesis import strategies as st

from motet.conformance.strategies import arrivals, programs
from motet.memory import open as open_memory
from motet.memory.clock import VirtualClock
from motet.message import Key
from motet.options import Lane
from motet.ports import Backend, Delivery, Entry, Settings
from motet.program import Op, Open

LANE = Lane("q", "small", 1)
NOW = timedelta()
several = st.tuples(*(programs("run", LANE, f"{number}.", max_leaves=6) for number in range(4)))


def anew(url: str, test: Callable[[Backend], Any]) -> Any:
    """Run a test on a new backend."""

    async def run() -> Any:
        async with open_memory(url, Settings(clock=VirtualClock())) as backend:
            return await test(backend)

    return anyio.run(run)


def states(url: str, history: list[list[Op]]) -> tuple[Any, ...]:
    """Settle programs one after another; return what is there at the end, and what was delivered as fresh."""

    async def settled(backend: Backend) -> tuple[Any, ...]:
        conflicts: list[Any] = []
        for program in history:
            [reply] = await backend.settler.settle([Entry(program)])
            conflicts.append(sorted(reply.conflicts, key=repr))
        names = await backend.store.names("run", "")
        records = await backend.store.get([Key("run", name) for name in names])
        barriers = await backend.store.barriers([Key("run", f"b.{number}") for number in range(3)])
        taken: list[Delivery] = await backend.transport.receive([LANE], 100, NOW)
        return conflicts, dict(zip(names, records, strict=True)), barriers, sorted(each.id for each in taken)

    found: tuple[Any, ...] = anew(url, settled)
    return found


@given(several)
def test_ordered_and_fused_settle_to_the_same_state(chosen: tuple[list[Op], ...]) -> None:
    assert states("memory://", list(chosen)) == states("memory://?settle=ordered", list(chosen))


@given(arrivals(6))
def test_a_barrier_is_the_set_of_its_first_arrivals(history: list[tuple[int, int]]) -> None:
    async def arrive(backend: Backend) -> None:
        key, seen = Key("run", "b.0"), dict[int, int]()
        await backend.store.open([Open(key, 6)])
        for slot, failed in history:
            seen.setdefault(slot, failed)
            arrival = await backend.store.arrive(key, slot, failed)
            assert arrival is not None
            assert (arrival.arrived, arrival.failed) == (len(seen), sum(seen.values()))
        [barrier] = await backend.store.barriers([key])
        assert barrier is not None
        assert barrier.arrived == tuple(seen)

    anew("memory://", arrive)
