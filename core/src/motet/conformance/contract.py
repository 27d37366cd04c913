"""What all contracts share: clauses, gaps, faults, and the way from a test to its proof.

A contract test takes a `Stage`, and is run once for each fault that its calls must survive. Subclasses add tests of
their own, and never replace one of the contract's.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, ClassVar, TypeAlias

import anyio
import pytest

from motet.capabilities import Capabilities
from motet.conformance.faults import Fault, Plain, faults
from motet.conformance.stage import Stage, Undeclared, Unproven
from motet.ports import Backend, Clock, Settings
from motet.ports.ambient import SystemClock

__all__ = ["Contract", "proves"]

Test: TypeAlias = Callable[[Any, Stage], Awaitable[None]]

PATIENT = timedelta(seconds=30)
"""A lease that does not end while a test runs."""
FAILURES = (Exception, BaseExceptionGroup, pytest.fail.Exception)
"""How a test can fail: what `pytest.raises` did not see is no `Exception`, and makes groups that are none either."""
TOGETHER = 6
"""So many lost replies are tried at once: a case that waits for a lease waits for all of them."""


def proves(
    *clauses: str, needs: str = "", repeats: bool = True, patient: bool = False
) -> Callable[[Test], Callable[..., None]]:
    """Make a method a contract test of some clauses.

    `needs` names the capability without which they are not promised. With `repeats=False` its calls are made once only:
    what it is about is a call that may not be repeated, or one that fails. A `patient` one has a long lease.
    """

    def decorate(test: Test) -> Callable[..., None]:
        @functools.wraps(test)
        def run(self: Contract, fault: str, loop: str) -> None:
            self.prove(run, fault, loop)

        run.__dict__.update(
            __clauses__=clauses, __needs__=needs, __repeats__=repeats, __patient__=patient, __body__=test
        )
        del run.__wrapped__  # pytest would ask for the parameters of the test itself
        return run

    return decorate


class Contract:
    """Base of every contract: subclass one, or `BackendContract` for all, and write `connect`."""

    gaps: ClassVar[Mapping[str, str]] = {}
    """Clauses, or single tests, that this backend does not keep, each with the reason. They must fail."""

    loops: ClassVar[Sequence[str]] = ("asyncio",)
    """The event loops that the backend works on: "asyncio", "trio"."""

    lease: ClassVar[timedelta] = timedelta(seconds=0.5)
    """The shortest lease at which this backend can be tested without haste."""

    deadline: ClassVar[float] = 60.0
    """Seconds of real time after which a test that hangs has failed."""

    def connect(self, settings: Settings) -> AbstractAsyncContextManager[Backend]:
        """Open one more client of the same, running broker; `settings` hold the namespace and the lease."""
        raise NotImplementedError("write connect(self, settings): it opens one more client of the broker under test")

    async def restart(self) -> None:
        """Stop the broker as a crash would, and start it again; clients stay open.

        Raises:
            Unproven: As long as you have not written it, and what needs it is reported as unproven.
        """
        raise Unproven("there is no restart() hook")

    def clock(self) -> Clock:
        """Return the clock that a test waits by: the machine's, unless the backend lives by another."""
        return SystemClock()

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        inherited = {name: test for base in reversed(cls.__mro__[1:]) for name, test in vars(base).items()}
        for name, test in vars(cls).items():
            if hasattr(inherited.get(name), "__clauses__") and not hasattr(test, "__clauses__"):
                raise TypeError(f"{cls.__name__}.{name} replaces a contract test: declare a gap instead")
            if hasattr(test, "__clauses__") and not cls.__module__.startswith("motet.conformance"):
                raise TypeError(f"{cls.__name__}.{name} claims to prove a clause: only motet.conformance can")
        known = {each for name, clauses in cls.claims().items() for each in (name, *clauses)}
        if unknown := set(cls.gaps) - known:
            raise TypeError(f"{cls.__name__}.gaps names unknown clauses: {', '.join(sorted(unknown))}")

    @classmethod
    def claims(cls) -> dict[str, tuple[str, ...]]:
        """Name every contract test, with the clauses that it proves."""
        found = ((name, getattr(cls, name)) for name in dir(cls) if name.startswith("test_"))
        return {name: test.__clauses__ for name, test in found if hasattr(test, "__clauses__")}

    @staticmethod
    def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
        """Run each contract test with each fault, on each loop."""
        where: Any = metafunc  # pytest leaves open what these two are
        test: Any = where.function
        cls: type[Contract] | None = where.cls
        if cls is not None and hasattr(test, "__clauses__"):
            metafunc.parametrize("loop", cls.loops)
            metafunc.parametrize("fault", faults if test.__repeats__ and not cls.gap(test) else (Plain.name,))

    @classmethod
    def gap(cls, test: Any) -> str:
        """Return why a test is expected to fail, or nothing."""
        names = (test.__name__, *test.__clauses__)
        return next((f"{name}: {cls.gaps[name]}" for name in names if name in cls.gaps), "")

    # Proving.

    def prove(self, test: Any, fault: str, loop: str) -> None:
        """Run one test, and turn what came out into pytest's words."""
        reason = self.gap(test)
        try:
            anyio.run(self.attempt, test, fault, backend=loop)
        except FAILURES as caught:
            error = only(caught)
            if isinstance(error, Unproven):
                pytest.skip(f"{type(error).__name__.lower()}: {error}")
            if not reason:
                raise error from error.__cause__
            pytest.xfail(f"gap {reason} ({type(error).__name__})")
        if reason:
            pytest.fail(f"the gap is closed: remove {reason.partition(':')[0]!r} from gaps")

    async def attempt(self, test: Any, fault: str) -> None:
        """Run one test under one kind of fault; a lost reply is tried for every call that the test makes.

        Raises:
            Unproven: There is no restart hook.
            Undeclared: The backend does not declare the capability.
        """
        kind = faults[fault]
        counted = await self.stage(test, kind(0))
        if kind.each_call:
            places = iter(range(1, counted + 1))
            async with anyio.create_task_group() as group:
                for _ in range(TOGETHER):
                    group.start_soon(self.places, test, kind, places)

    async def places(self, test: Any, kind: type[Fault], places: Iterator[int]) -> None:
        for place in places:
            await self.stage(test, kind(place))

    async def stage(self, test: Any, fault: Fault) -> int:
        """Run a test once on a new stage; return how many calls could have met the fault."""
        with anyio.fail_after(self.deadline):
            async with Stage.open(self, fault, PATIENT if test.__patient__ else self.lease) as stage:
                self.declared(test, stage.a.capabilities)
                await test.__body__(self, stage)
        return fault.calls

    def declared(self, test: Any, capabilities: Capabilities) -> None:
        """Leave out what the backend does not claim: then it must refuse, which B1 proves."""
        if test.__needs__ and not getattr(capabilities, test.__needs__):
            raise Undeclared(f"it has no {test.__needs__!r}")


def only(error: BaseException) -> BaseException:
    """Take an error out of the groups that hold nothing else: a test has failed for one reason.

    Raises:
        BaseException: It is no failure, but the end of the whole run.
    """
    inner: Sequence[BaseException] = (error,)
    while len(inner) == 1:
        error = inner[0]
        inner = getattr(error, "exceptions", ())
    reason = error
    if not isinstance(error, FAILURES):
        raise error
    return reason
