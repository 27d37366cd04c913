from collections.abc import Awaitable, Callable
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from motet import Motet
from motet.memory.clock import VirtualClock
from motet.worker.loop import Worker

Until = Callable[[Callable[[], object]], Awaitable[None]]


@pytest.fixture
def app() -> Motet:
    return Motet("memory://", lease=1)


@pytest.fixture
def calls() -> list[Any]:
    """What tasks note down."""
    return []


@pytest.fixture
def until() -> Until:
    """Wait until a claim holds, at most five seconds."""

    async def wait(claim: Callable[[], object]) -> None:
        with anyio.fail_after(5):
            while not claim():
                await anyio.sleep(0.002)

    return wait


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


class Virtual(Motet):
    """An app whose time passes only when the test says so: its workers know no lease thread, and no grace."""

    def make_worker(self, **options: Any) -> Worker:
        return super().make_worker(**{"lease_thread": False, "grace": timedelta(), **options})


@pytest.fixture
def virtual(clock: VirtualClock) -> Motet:
    """An app whose time passes only when the test says so."""
    return Virtual("memory://", clock=clock)


class Faulty:
    """Ports in one, whose calls fail as long as `errors` has one for them: every so many times, in order."""

    def __init__(self, *ports: Any) -> None:
        self.ports = ports
        self.errors: dict[str, list[Exception]] = {}
        self.made: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = next(getattr(port, name) for port in self.ports if hasattr(port, name))

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.made.append(name)
            if self.errors.get(name):
                await anyio.lowlevel.checkpoint()
                raise self.errors[name].pop(0)
            return await found(*args, **kwargs)

        return call if iscoroutinefunction(found) else found


@pytest.fixture
def faults() -> Callable[[Motet], Faulty]:
    """Put a faulty port between an open app and its memory backend."""

    def wrap(app: Motet) -> Faulty:
        backend: Any = app.backend
        names = ("transport", "store", "timers", "settler")
        faulty = Faulty(*(getattr(backend, name) for name in names))
        for name in names:
            setattr(backend, name, faulty)
        app.attach(backend)
        return faulty

    return wrap
