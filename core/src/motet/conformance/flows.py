"""What the contracts of workflows share: a submitter on one client, a worker on the other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from motet.app import Motet
from motet.canvas.terms import Term
from motet.conformance.contract import Contract
from motet.conformance.stage import Stage
from motet.worker.loop import Worker

__all__ = ["FlowContract"]

PATIENCE = 30.0


class FlowContract(Contract):
    """Base of the contracts that run tasks."""

    @asynccontextmanager
    async def _running(self, stage: Stage, app: Motet, *, without: Sequence[str] = ()) -> AsyncGenerator[Worker]:
        """Run a worker on the other client, so that what a submitter knows is not at hand."""
        other = stage.app(stage.b, result_ttl=app.result_ttl)
        known = app.registry.definitions
        other.registry.definitions = {name: known[name] for name in known if name not in without}
        async with stage.worker(other) as worker:
            yield worker

    async def _submit(self, stage: Stage, app: Motet, term: Term[Any, Any], **options: Any) -> Any:
        """Submit a term to this stage's queue."""
        chosen: Any = options
        run, _ = await app.submitter.submit(term.set(queue=stage.queue), chosen)
        return app.handle_of(run, term)

    async def _value(self, run: Any) -> Any:
        """Wait for a value."""
        return await run.result(timeout=max(PATIENCE, self.deadline / 2))

    async def _until(self, stage: Stage, claim: Callable[[], Awaitable[object] | object]) -> None:
        """Wait until a claim holds."""
        give_up = stage.now + max(PATIENCE, self.deadline / 2)
        while True:
            holds = claim()
            if (await holds) if isinstance(holds, Awaitable) else holds:
                return
            assert stage.now < give_up, "it did not come true in time"
            await stage.sleep(0.05)
