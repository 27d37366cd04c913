"""What `motet doctor` looks at. Each check says how it is and, when it is not well, what to do."""

from __future__ import annotations

import platform
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import distributions
from typing import TYPE_CHECKING, Literal

import anyio
import attrs

from motet.backends import masked, open_backend
from motet.cli.target import load_app
from motet.errors import MotetError, UsageError
from motet.message import Key
from motet.options import CONTROL
from motet.ports import Backend, Settings
from motet.program import Once, Put

if TYPE_CHECKING:
    from motet.app import Motet

__all__ = ["Finding", "examine", "machine"]

SLOW = 0.1
"""A round trip of more seconds than this makes everything slow."""
PROMPT = 0.25
"""A wake-up from another client that takes longer was probably lost, and a poll stood in for it."""
PATIENCE = 5.0
KEPT = timedelta(minutes=1)


@attrs.frozen
class Finding:
    """One check's result."""

    check: str
    state: Literal["ok", "warn", "fail"]
    text: str
    advice: str = ""


def machine() -> Iterator[Finding]:
    """Look at what is installed, and at the clock."""
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()}")
    dists = {d.name: d.version for d in distributions() if d.name == "motet" or d.name.startswith("motet-")}
    text = ", ".join(f"{name} {each}" for name, each in sorted(dists.items()))
    if len({each.partition(".dev")[0].rpartition(".")[0] for each in dists.values()}) > 1:
        yield Finding("versions", "warn", text, "the parts are of different releases: upgrade them together")
    else:
        yield Finding("versions", "ok", text)
    yield clock()


def clock() -> Finding:
    """Leases and delays count on a wall clock that runs like the monotonic one."""
    wall, steady = time.time(), time.monotonic()
    time.sleep(0.05)
    drift = abs((time.time() - wall) - (time.monotonic() - steady))
    now = datetime.now(UTC)
    if now.year < 2025 or drift > 0.02:
        what = f"{now:%Y-%m-%d %H:%M:%S} UTC, {drift * 1000:.0f} ms off within 50 ms"
        return Finding("clock", "fail", what, "set the clock, and keep it with NTP: delays and leases depend on it")
    return Finding("clock", "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC, steady")


async def examine(target: str) -> AsyncIterator[Finding]:
    """Look at the app and its backend, as far as each step lets the next one work."""
    try:
        app = load_app(target)
    except UsageError as error:
        yield Finding("app", "fail", target, str(error))
        return
    yield Finding("app", "ok", f"{target} is {app!r}")
    yield tasks(app)
    try:
        async with app:
            async for finding in backend(app):
                yield finding
    except MotetError as error:
        yield Finding("backend", "fail", masked(app.url), str(error))


def tasks(app: Motet) -> Finding:
    """Every task must have a signature that can be read; an app without tasks is a mistake."""
    try:
        app.import_tasks()
    except MotetError as error:
        return Finding("tasks", "fail", "not all can be resolved", str(error))
    count = len(app.registry.definitions)
    if not count:
        return Finding("tasks", "warn", "none", "name the modules that define them: Motet(url, include=[...])")
    return Finding("tasks", "ok", f"{count}, all resolvable")


async def backend(app: Motet) -> AsyncIterator[Finding]:
    """Look at an open backend."""
    can = app.backend.capabilities
    yield await round_trip(app)
    offered = [name for name in ("shared", "atomic", "durable", "locks") if getattr(can, name)]
    text = f"{can.name}: {', '.join(offered) or 'none'}"
    if can.shared:
        yield Finding("capabilities", "ok" if can.durable else "warn", text)
        yield await wake_up(app)
    else:
        advice = "other processes see nothing of it, and the work dies with the program; set MOTET_URL for more"
        yield Finding("capabilities", "warn", text, advice)
    async for finding in queues(app):
        yield finding


async def round_trip(app: Motet) -> Finding:
    """Write, read and remove a record, five times."""
    store = app.backend.store
    times: list[float] = []
    for _ in range(5):
        start = time.perf_counter()
        key = Key(app.ids.new(), "doctor")
        await store.put([Put(key, b"well", KEPT)])
        if await store.get([key]) != [b"well"]:
            return Finding("backend", "fail", masked(app.url), "it does not read what was written just before")
        await store.drop([key])
        times.append((time.perf_counter() - start) / 3)
    middle = sorted(times)[2]
    text = f"{masked(app.url)} answers in {middle * 1000:.1f} ms"
    if middle > SLOW:
        return Finding("backend", "warn", text, "that is slow: bring it nearer, or look at its disk")
    return Finding("backend", "ok", text)


async def wake_up(app: Motet) -> Finding:
    """Decide something with one client, and see when another is woken (N1)."""
    run = app.ids.new()
    key = Key(run, "o.0")
    settings = Settings(namespace=app.namespace, lease=app.lease, timeout=app.publish_timeout, clock=app.clock)
    async with open_backend(app.url, settings) as other:
        waited = await woken(app.backend, other, run, key)
    await app.backend.store.drop([key])
    text = f"another client is woken in {waited * 1000:.0f} ms"
    if waited > PROMPT:
        advice = "results arrive by polling, about once a second; may this directory hold sockets, is a firewall there?"
        return Finding("wake-up", "warn", text if waited < PATIENCE else "another client is not woken", advice)
    return Finding("wake-up", "ok", text)


async def woken(ours: Backend, other: Backend, run: str, key: Key) -> float:
    """Seconds from a decision to the wake-up."""
    async with ours.signals.subscribe(run) as wakeups:
        await wakeups.wait(timedelta(milliseconds=1))
        start = time.perf_counter()
        async with anyio.create_task_group() as group:
            group.start_soon(other.store.put_once, [Once(key, b"doctor", KEPT, ends=True)])
            while (left := PATIENCE - (time.perf_counter() - start)) > 0:
                await wakeups.wait(timedelta(seconds=left))
                if (await ours.store.get([key]))[0] is not None:
                    break
    return time.perf_counter() - start


async def queues(app: Motet) -> AsyncIterator[Finding]:
    """A paused queue is easily forgotten; one with work and no worker looks just like it."""
    infos = [info for info in await app.backend.transport.queues() if info.queue != CONTROL.queue]
    well = True
    for info in infos:
        if info.paused:
            well = False
            text = f"{info.queue} is paused, {info.ready} ready"
            yield Finding("queue", "warn", text, f"motet queue resume {info.queue}")
        elif info.ready and not info.held:
            well = False
            text = f"{info.ready} ready in {info.queue}, and nobody works on it"
            yield Finding("queue", "warn", text, f"motet worker -Q {info.queue}")
    if well:
        yield Finding("queues", "ok", "none is paused or left alone")
