"""From a term to a run: compile, then make exactly one committing publish (C16)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import anyio
import attrs
import msgspec

from motet.canvas import advance
from motet.canvas.advance import PENDING
from motet.canvas.compile import INLINE, Catalog, Compiled, CompiledPage, Origin, compile_term
from motet.canvas.launching import Submission
from motet.canvas.plan import Plan, page_key
from motet.canvas.records import RUN, RunInfo, claim_key, control
from motet.canvas.stencil import Stencil
from motet.canvas.terms import PLAIN, Signature, Term
from motet.errors import Unavailable, UsageError
from motet.failpoints import hit
from motet.identity import check_id, derive
from motet.message import VERSION, Key, Message, Order, Parcel
from motet.options import aware, instant, seconds
from motet.ports import Backend, Clock, Entry, Ids
from motet.program import Do, Op, Put

__all__ = ["Bulk", "Child", "Submitter", "child", "read_children", "spawned"]

CALLS = 1000
"""Runs handed over in one call."""
BATCH = 32
"""Pages written in one call: about 1 MiB, and no transaction over 100 ms on SQLite."""


@attrs.frozen
class Submitter:
    """Submits terms to one backend."""

    backend: Backend
    catalog: Catalog
    clock: Clock
    ids: Ids
    timeout: timedelta
    result_ttl: float
    marker_ttl: float
    stencils: dict[int, Stencil] = attrs.field(factory=dict[int, Stencil])

    async def submit(self, term: Term[Any, Any], options: Submission) -> tuple[str, bool]:
        """Submit a term; return the run's id, and whether it is new.

        Raises:
            UsageError: The term or an option is wrong; nothing was sent.
            Unavailable: The backend did not confirm within the timeout.
        """
        if not options and (single := self.single(term)) is not None:
            run, parcel = single
            hit("before_submit")
            await self.backend.transport.publish((parcel,))
            hit("after_submit")
            return run, True
        prepared = self.prepare(term, options)
        return prepared.run, await self.confirmed(prepared)

    async def confirmed(self, prepared: Prepared) -> bool:
        """Send a run, as `send` does, and have it confirmed within the timeout, which is longer for a large one.

        Raises:
            Unavailable: It was not.
        """
        try:
            with anyio.fail_after(self.timeout.total_seconds() * (1 + prepared.compiled.header.size / 10_000)):
                return await self.send(prepared)
        except TimeoutError as error:
            raise Unavailable(
                f"run {prepared.run} was not confirmed within {self.timeout.total_seconds():g} s; "
                "submit it again with the same id to be sure of one run"
            ) from error

    def single(self, term: Term[Any, Any]) -> tuple[str, Parcel] | None:
        """Return the run and the message of a call that nothing decorates; None for any other term, which has a plan.

        Raises:
            UsageError: The call is wrong.
        """
        if type(term) is not Signature or term.options or term.scope is not PLAIN or term.form != "call":
            return None
        bound = self.catalog.bind(term, False)
        stencil = self.stencils.get(id(bound.profile))
        if stencil is None or stencil.profile is not bound.profile:
            stencil = Stencil.of(self.compiled(term, ""))
            if stencil is None:
                return None
            self.stencils[id(stencil.profile)] = stencil
        if len(bound.call) > INLINE:
            return None
        run = self.ids.new()
        return run, stencil.parcel(run, bound.call)

    def prepare(self, term: Term[Any, Any], options: Submission | None = None) -> Prepared:
        """Compile a term with its options; no I/O."""
        if not options:
            return Prepared.of(self.compiled(term, self.ids.new()), None, self.clock.now())
        given: dict[str, Any] = dict(options)
        run = self.run_id(given)
        due = self.due(given)
        ttl = seconds(given["result_ttl"], "result_ttl") if given.get("result_ttl") is not None else self.ttl_of(term)
        inner = {name: value for name, value in given.items() if name not in OUTER}
        chosen = term.set(**inner) if inner else term
        origin = Origin(run=run, discard=not ttl, given="id" in given or "unique" in given)
        compiled = compile_term(chosen, origin, self.catalog, ttl=ttl or self.marker_ttl)
        return Prepared.of(compiled, due, self.clock.now())

    def compiled(self, term: Term[Any, Any], run: str) -> Compiled:
        """Compile a term as it is."""
        ttl = self.ttl_of(term)
        return compile_term(term, Origin(run=run, discard=not ttl), self.catalog, ttl=ttl or self.marker_ttl)

    def ttl_of(self, term: Term[Any, Any]) -> float:
        """A single call keeps its result as its task says; a composition as the app says."""
        return self.catalog.ttl(term, self.result_ttl)

    def run_id(self, options: dict[str, Any]) -> str:
        unique, given = options.get("unique"), options.get("id")
        if unique is not None and given is not None:
            raise UsageError("give id= or unique=, not both")
        if unique is not None:
            return derive("unique", unique)
        return check_id(given) if given is not None else self.ids.new()

    def due(self, options: dict[str, Any]) -> datetime | None:
        if options.get("delay") is not None and options.get("eta") is not None:
            raise UsageError("give delay= or eta=, not both")
        if options.get("eta") is not None:
            return aware(options["eta"], "eta")
        return instant(options["delay"], self.clock.now(), "delay") if options.get("delay") else None

    def at_once(self, prepared: Prepared) -> Entry | None:
        """The one entry that submits a small run, if the backend can apply it whole."""
        compiled, plan = prepared.compiled, prepared.plan
        if compiled.plain is not None and not prepared.given:
            ops = advance.call(plan, prepared.now)
            return Entry(advance.later(ops, prepared.due) if prepared.due else ops)
        if not self.backend.capabilities.atomic or compiled.header.size > len(plan.page("", 0).nodes):
            return None
        values: list[Op] = [Put(Key(prepared.run, name), value) for name, value in compiled.first.values]
        page = compiled.first.body
        return Entry([*values, *advance.launch(plan, prepared.now, prepared.info, page=page, due=prepared.due)])

    async def send(self, prepared: Prepared) -> bool:
        """Publish a run; False when its id was there already."""
        entry = self.at_once(prepared)
        if entry is None:
            await self.store_pages(prepared)
            hit("before_start")
            entry = Entry(self.start(prepared))
        hit("before_submit")
        (reply,) = await self.backend.settler.settle([entry])
        hit("after_submit")
        return not any(
            conflict.key in (claim_key(prepared.run), Key(prepared.run, RUN)) for conflict in reply.conflicts
        )

    def start(self, prepared: Prepared) -> Sequence[Op]:
        """The committing publish of a run whose pages are stored.

        Where the two ops are not one transaction the message goes first, and whoever begins the run writes a missing
        record. Only an id that the user chose is claimed first: then a second submit completes what the first began.
        """
        ops = advance.launch(prepared.plan, prepared.now, prepared.info, due=prepared.due)
        return ops if prepared.given or self.backend.capabilities.atomic else list(reversed(ops))

    async def store_pages(self, prepared: Prepared) -> None:
        """Write the plan, pages first, before anything refers to it; a janitor looks after a client that dies here."""
        run, compiled = prepared.run, prepared.compiled
        janitor = Message(VERSION, Order.JANITOR, run)
        patience = max(PENDING, PENDING if prepared.due is None else prepared.due - prepared.now + PENDING)
        await self.backend.timers.park([control(janitor, prepared.now + patience)])
        batch: list[Put] = []
        for number, page in enumerate(itertools.chain((compiled.first,), compiled.rest)):
            batch += page_puts(run, "", number, page)
            if len(batch) >= BATCH:
                await self.backend.store.put(batch)
                hit("between_pages")
                batch = []
        await self.backend.store.put(batch)


class Bulk:
    """Many runs on their way, in as few round trips as the backend allows. All are checked before any is sent."""

    def __init__(self, submitter: Submitter) -> None:
        self.submitter: Submitter = submitter
        self.count: int = 0
        self.calls: list[Parcel] = []
        self.entries: list[Entry] = []
        self.large: list[Prepared] = []

    def add(self, term: Term[Any, Any]) -> str:
        """Take a term in, which is not looked at again, and return its run's id.

        Raises:
            UsageError: The term is wrong.
        """
        self.count += 1
        if (single := self.submitter.single(term)) is not None:
            run, parcel = single
            self.calls.append(parcel)
            return run
        prepared = self.submitter.prepare(term)
        if prepared.compiled.plain is not None:
            self.calls.append(advance.called(prepared.plan, prepared.now))
        elif (entry := self.submitter.at_once(prepared)) is not None:
            self.entries.append(entry)
        else:
            self.large.append(prepared)
        return prepared.run

    async def send(self) -> None:
        """Send all.

        Raises:
            Unavailable: The backend did not confirm within the timeout, and half a millisecond for each run.
        """
        timeout = self.submitter.timeout.total_seconds() * (1 + self.count / 10_000)
        for prepared in self.large:
            await self.submitter.confirmed(prepared)
        backend = self.submitter.backend
        try:
            with anyio.fail_after(timeout):
                for start in range(0, len(self.calls), CALLS):
                    await backend.transport.publish(self.calls[start : start + CALLS])
                for start in range(0, len(self.entries), CALLS):
                    await backend.settler.settle(self.entries[start : start + CALLS])
        except TimeoutError as error:
            raise Unavailable(
                f"{self.count} runs were not confirmed within {timeout:g} s: some may have begun; what must not run "
                "twice is to be submitted by itself, with an id"
            ) from error


OUTER = {"id", "unique", "delay", "eta", "result_ttl"}


class Prepared(msgspec.Struct, frozen=True):
    """A run that is ready to be sent. `plan` knows its first page."""

    run: str
    compiled: Compiled
    plan: Plan
    due: datetime | None
    now: datetime

    @classmethod
    def of(cls, compiled: Compiled, due: datetime | None, now: datetime) -> Prepared:
        run, first = compiled.origin.run, compiled.first
        plan = Plan(run)
        plan.add("", 0, first.body, first.page)
        return cls(run, compiled, plan, due, now)

    @property
    def given(self) -> bool:
        """Whether the user chose the id."""
        return self.compiled.origin.given

    @property
    def info(self) -> RunInfo:
        """The run's record."""
        header = self.compiled.header
        created = 0.0 if self.given else self.now.timestamp()
        assert self.compiled.first.page is not None
        return RunInfo(self.compiled.first.page.name, header.size, header.leaves, created, header.ttl, self.given)


def page_puts(run: str, segment: str, number: int, page: CompiledPage) -> list[Put]:
    """The records of one page: its large values first."""
    values = [Put(Key(run, name), value) for name, value in page.values]
    return [*values, Put(page_key(run, segment, number), page.body)]


class Child(msgspec.Struct, frozen=True, array_like=True):
    """A run that a task asked for, compiled; `plain` says that it is one call, which needs no record."""

    run: str
    pages: tuple[bytes, ...]
    values: tuple[tuple[str, bytes], ...]
    plain: bool


read_children: Callable[[bytes], list[Child]] = msgspec.msgpack.Decoder(list[Child]).decode


def child(term: Term[Any, Any], run: str, catalog: Catalog, ttl: float) -> Child:
    """Compile a term that is submitted by a settlement."""
    compiled = compile_term(term, Origin(run=run), catalog, ttl=ttl)
    pages = (compiled.first, *compiled.rest)
    values = tuple(value for page in pages for value in page.values)
    return Child(run, tuple(page.body for page in pages), values, compiled.plain is not None)


def spawned(children: Iterable[Child], now: datetime) -> list[Op]:
    """The ops that submit runs from inside a settlement; each goes its own way."""
    ops: list[Op] = []
    for each in children:
        plan = Plan(each.run)
        plan.add("", 0, each.pages[0])
        plain = advance.call(plan, now) if each.plain else None
        ops.append(Do(plain or advance.dispatch(plan, each.pages, each.values, now)))
    return ops
