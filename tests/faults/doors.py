"""Ways into a backend for which core has no call yet: its ports, called as core will. Each may be taken twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import msgspec

from motet import ErrorInfo, Motet, Term
from motet.canvas import advance
from motet.canvas.compile import Origin, compile_term
from motet.engine.submit import Prepared
from motet.message import DeadLetter, Parcel
from motet.outcome import Kind
from motet.ports import Admission, Rule, Schedule

__all__ = ["admit", "call", "fire", "replay"]

DAY = timedelta(days=1)


def call(app: Motet, root: str, term: Term[Any, Any]) -> Parcel:
    """The parcel of a single call that core made up, under an id that we know."""
    submitter, now = app.submitter, app.clock.now()
    compiled = compile_term(term, Origin(run=root), submitter.catalog, ttl=submitter.result_ttl)
    return advance.called(Prepared.of(compiled, None, now).plan, now)


async def admit(app: Motet, root: str, term: Term[Any, Any]) -> None:
    """Publish it subject to a key."""
    parcel = call(app, root, term)
    await app.backend.transport.admit([Admission(f"key of {root}", Rule.FIRST, parcel, DAY)])


async def fire(app: Motet, root: str, term: Term[Any, Any]) -> None:
    """Publish it as what a schedule is due for, and see to what somebody left who died over it."""
    schedules, now = app.backend.schedules, app.clock.now()
    saved = await schedules.save(Schedule(root, now))
    if saved is not None and saved.due is not None:
        await schedules.fire(root, saved.due, None, [call(app, root, term)])
    while await app.backend.transport.find([root]) == [None] and not await app.backend.store.names(root, ""):
        await schedules.due(now, 10)
        await anyio.sleep(0.1)


async def replay(app: Motet, root: str, term: Term[Any, Any]) -> None:
    """Publish it in place of a dead letter."""
    parcel, letters = call(app, root, term), app.backend.deadletters
    name = f"letter of {root}"
    letter = DeadLetter(name, parcel.lane, "faults:member", parcel.body, ErrorInfo(Kind.EXCEPTION), app.clock.now())
    if await app.backend.transport.find([root]) == [None] and not await app.backend.store.names(root, ""):
        await letters.bury([letter])
    await letters.replay([(name, msgspec.structs.replace(parcel, suspect=False))])
