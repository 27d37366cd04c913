"""Clauses W1 to W3: the roll of workers."""

from __future__ import annotations

from datetime import timedelta

from motet.conformance.contract import Contract, proves
from motet.conformance.stage import Stage
from motet.ports import Present

__all__ = ["WorkersContract"]

LONG = timedelta(seconds=60)


class WorkersContract(Contract):
    """Port W."""

    async def _listed(self, stage: Stage) -> list[tuple[str, bytes]]:
        """List this stage's workers."""
        found = [each for each in await stage.b.workers.present() if each.id.startswith(stage.name(""))]
        return [(each.id.removeprefix(stage.name("")), each.about) for each in found]

    async def _beat(self, stage: Stage, name: str, about: bytes, ttl: timedelta = LONG) -> None:
        """Have a worker say something of itself."""
        await stage.a.workers.beat(Present(stage.name(name), about), ttl)

    @proves("W1")
    async def test_w1_workers_are_listed_with_what_they_said_last(self, stage: Stage) -> None:
        for name, about in (("w2", b"a"), ("w1", b"\x00\xff"), ("w2", b"b")):
            await self._beat(stage, name, about)

        assert await self._listed(stage) == [("w1", b"\x00\xff"), ("w2", b"b")]

    @proves("W2")
    async def test_w2_a_silent_worker_is_forgotten(self, stage: Stage) -> None:
        short = 2 * stage.lease  # long enough for a few calls, however slow
        await self._beat(stage, "silent", b"", short)
        await self._beat(stage, "alive", b"", short)
        await self._beat(stage, "alive", b"", LONG)
        await self._beat(stage, "brief", b"", LONG)
        await self._beat(stage, "brief", b"", short)
        assert len(await self._listed(stage)) == 3

        await stage.sleep(short.total_seconds() + 0.1)

        assert await self._listed(stage) == [("alive", b"")]

    @proves("W3")
    async def test_w3_a_worker_that_left_is_not_listed(self, stage: Stage) -> None:
        for name in ("w1", "w11"):
            await self._beat(stage, name, b"")

        await stage.b.workers.leave(stage.name("w1"))
        await stage.b.workers.leave(stage.name("unknown"))

        assert await self._listed(stage) == [("w11", b"")]
