"""Clauses E1 to E4: the stream of events."""

from __future__ import annotations

from datetime import timedelta

import anyio

from motet.conformance.contract import Contract, proves
from motet.conformance.stage import NOW, SOON, Stage
from motet.ports import Backend

__all__ = ["EventsContract"]

KEPT = 1000


class EventsContract(Contract):
    """Port E."""

    def _marked(self, stage: Stage, *names: str) -> list[bytes]:
        """Make events that this stage knows again among others."""
        return [f"{stage.run}\x00{name}\xff".encode("latin-1") for name in names]

    async def _follow(self, stage: Stage, backend: Backend, cursor: str, count: int) -> tuple[str, list[bytes]]:
        """Read on until so many events of this stage were found."""
        mark = f"{stage.run}\x00".encode()
        found: list[bytes] = []
        while len(found) < count:
            cursor, events = await backend.events.read(cursor, 100, SOON)
            assert events
            found += [event for event in events if event.startswith(mark)]
        return cursor, found

    @proves("E1", needs="events", repeats=False)
    async def test_e1_every_reader_reads_every_event_in_order(self, stage: Stage) -> None:
        cursors = [(await backend.events.read(None, 1, NOW))[0] for backend in (stage.a, stage.b)]
        sent = self._marked(stage, *(str(number) for number in range(20)))

        await stage.a.events.emit(sent[:10])
        await stage.a.events.emit(sent[10:])

        for backend, cursor in zip((stage.a, stage.b), cursors, strict=True):
            _, found = await self._follow(stage, backend, cursor, 20)
            assert found == sent

    @proves("E2", needs="events", repeats=False)
    async def test_e2_a_cursor_continues_and_none_begins_now(self, stage: Stage) -> None:
        await stage.a.events.emit(self._marked(stage, "before"))
        cursor, events = await stage.b.events.read(None, 100, NOW)
        assert not set(events) & set(self._marked(stage, "before"))
        for number in range(5):
            sent = self._marked(stage, f"{number}a", f"{number}b")
            await stage.a.events.emit(sent)

            cursor, found = await self._follow(stage, stage.b, cursor, 2)

            assert found == sent

    @proves("E3", needs="events", repeats=False)
    async def test_e3_read_waits_for_the_first_event(self, stage: Stage) -> None:
        cursor, _ = await stage.b.events.read(None, 1, NOW)
        began = stage.now
        async with anyio.create_task_group() as group:
            group.start_soon(self._follow, stage, stage.b, cursor, 1)
            await stage.sleep(0.1)
            await stage.a.events.emit(self._marked(stage, "one", "two", "three"))
        assert stage.now - began < SOON.total_seconds() / 2

        _, events = await stage.b.events.read(cursor, 2, NOW)

        assert len(events) == 2

    @proves("E3", needs="events", repeats=False)
    async def test_e3_read_returns_nothing_after_its_wait(self, stage: Stage) -> None:
        cursor, _ = await stage.b.events.read(None, 1, NOW)
        began = stage.now

        _, events = await stage.b.events.read(cursor, 1, timedelta(seconds=0.2))

        # Others may have emitted meanwhile.
        assert events or 0.19 <= stage.now - began < 2

    @proves("E4", needs="events", repeats=False)
    async def test_e4_the_last_thousand_are_kept(self, stage: Stage) -> None:
        cursor, _ = await stage.b.events.read(None, 1, NOW)
        sent = self._marked(stage, *(str(number) for number in range(6 * KEPT)))
        for start in range(0, len(sent), 500):
            await stage.a.events.emit(sent[start : start + 500])

        found: list[bytes] = []
        while True:
            cursor, events = await stage.b.events.read(cursor, KEPT, NOW)
            if not events:
                break
            found += events
        mine = [event for event in found if event.startswith(stage.run.encode())]

        assert mine[-KEPT:] == sent[-KEPT:]
        assert len(mine) <= 3 * KEPT
