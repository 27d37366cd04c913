"""Delays: a message climbs down a ladder of queues, whose times to live are the hexadecimal digits of its delay.

Each queue has one time to live, so the head of a queue is always the first to expire, and nothing waits behind what
waits longer. A delay of 0x2f0 ms waits 0x200 ms in one queue and 0xf0 ms in the next; zeros are skipped by bindings.
Queues are quorum queues that dead-letter at least once: of classic ones 849 of 1,269 messages were lost when the broker
was killed three times, of these 0 of 1,477; some came twice, so whoever receives looks at the message's id.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable
from typing import Any, NamedTuple

from motet.errors import UsageError
from motet_rabbitmq.link import Link

__all__ = ["LONGEST", "Ladder", "Step", "route", "steps"]

DIGITS = 9
LONGEST = 16**DIGITS - 1
"""Milliseconds: 795 days."""
QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}
ENDLESS = 2_000_000_000
"""Redeliveries before a quorum queue drops a message: -1 drops at once on 3.10, and none is 20 on 4.0."""
KEPT = 3_600_000
"""Milliseconds that a queue of one delay is kept unused, longer than what is in it needs to leave."""
RENEWED = 600.0
"""Seconds after which it is declared again, which is use."""
LONGEST_FIXED = 86_400_000
"""Milliseconds; beyond that a delay is not one that comes often."""
PLAIN = re.compile(r"[A-Za-z0-9_.:/ -]{1,200}")
"""Names that can stand in a binding key: it has 255 bytes, and `*` and `#` mean something there."""


class Step(NamedTuple):
    """From the exchange of a level, -1 for the last one, to the queue of (level, digit), or out when digit is 0."""

    exchange: int
    level: int
    digit: int

    @property
    def key(self) -> str:
        """What binds it: digits above are done, those between are zero."""
        above = ["*"] * (DIGITS - 1 - self.exchange)
        if not self.digit:
            return ".".join((*above, *["0"] * (self.exchange + 1), "#"))
        return ".".join((*above, *["0"] * (self.exchange - self.level), f"{self.digit:x}", "#"))


def steps(delay: int) -> list[Step]:
    """Say which way a delay of so many milliseconds goes; nothing when it is 0.

    Raises:
        UsageError: It is negative, or above LONGEST.
    """
    if not 0 <= delay <= LONGEST:
        raise UsageError(f"a delay is 0 to {LONGEST} ms on RabbitMQ, not {delay}")
    way: list[Step] = []
    at = DIGITS
    for level in reversed(range(DIGITS)):
        if digit := delay >> 4 * level & 15:
            way.append(Step(level if at == DIGITS else at - 1, level, digit))
            at = level
    if 0 < at < DIGITS:
        way.append(Step(at - 1, -1, 0))
    return way


def route(prefix: str, delay: int, target: str) -> tuple[str, str]:
    """Say where to publish, (exchange, routing key), so that it comes to queue `target` after so many milliseconds.

    Raises:
        UsageError: The delay is negative, or above LONGEST.
    """
    way = steps(delay)
    digits = f"{delay:0{DIGITS}x}"
    return _exchange(prefix, way[0].exchange if way else -1), ".".join((*digits, _token(target)))


class Ladder:
    """The delays of a namespace. A rung is declared when the first delay needs it, and again on a new connection."""

    def __init__(self, link: Link, prefix: str) -> None:
        self.link = link
        self.prefix = prefix
        self._generation: int = 0
        self._known: set[Step | str] = set()
        self._fixed: dict[str, float] = {}

    async def attach(self, target: str) -> None:
        """Have a queue take what comes out for it. Once for each queue; repeating it costs nothing.

        Raises:
            Missing: There is no such queue.
        """
        self._renew()
        if target in self._known:
            return
        await self._exchanges(-1)
        key = ".".join((*["*"] * DIGITS, _token(target)))
        await self.link.topology.bind(target, _exchange(self.prefix, -1), key)
        self._known.add(target)

    async def place(self, delay: int, target: str) -> tuple[str, str]:
        """Return where to publish, (exchange, routing key), for a delay in milliseconds, 0 to LONGEST.

        The target was attached before. What is published there with a wrong time of its own (`expiration`) is late or
        early: the ladder alone says when.

        Raises:
            UsageError: The delay is negative, or above LONGEST.
        """
        self._renew()
        missing = [step for step in steps(delay) if step not in self._known]
        if missing:
            await self._exchanges(*(step.exchange for step in missing), *(step.level - 1 for step in missing))
            await _all(self._declare(step) for step in missing)
        return route(self.prefix, delay, target)

    async def prepare(self, longest: int) -> None:
        """Declare all rungs for delays up to so many milliseconds: they are there, and last, when one is needed.

        15 queues for each hexadecimal digit, and two seconds the first time; a worker need not wait for it.

        Raises:
            UsageError: The delay is negative, or above LONGEST.
        """
        self._renew()
        top = max((step.level for step in steps(longest)), default=-1) + 1
        await self._exchanges(*range(-1, top))
        rungs = [(level, digit) for level in range(top) for digit in range(1, 16)]
        await self.link.topology.declare_queues(dict(self._rung(*rung) for rung in rungs), lasting=True)
        self._known |= {self._rung(*rung)[0] for rung in rungs}
        ways = [Step(exchange, *rung) for rung in rungs for exchange in range(rung[0], top)]
        await _all(self._declare(step) for step in (*ways, *(Step(exchange, -1, 0) for exchange in range(top))))

    async def fixed(self, delay: int, target: str) -> tuple[str, str]:
        """The same for a delay that comes often, such as a policy's first retry: one queue of its own, one hop.

        The target need not be attached.

        Raises:
            UsageError: The delay is not 1 to 86,400,000 ms.
        """
        if not 1 <= delay <= LONGEST_FIXED:
            raise UsageError(f"a fixed delay is 1 to {LONGEST_FIXED} ms, not {delay}")
        self._renew()
        name = f"{self.prefix}.fixed.{delay}.{_token(target)}"
        now = asyncio.get_running_loop().time()
        if now - self._fixed.get(name, -RENEWED) >= RENEWED:
            arguments = {**_parking(delay, ""), "x-dead-letter-routing-key": target, "x-expires": delay + KEPT}
            await self.link.topology.declare_queue(name, arguments)
            self._fixed[name] = now
        return "", name

    def forget(self) -> None:
        """Declare all again when it is next needed: a publish has found something missing."""
        self._known.clear()
        self._fixed.clear()

    def _renew(self) -> None:
        """A new connection may be to a broker that has lost, or never had, what we know to be there."""
        if self._generation != self.link.generation:
            self._generation = self.link.generation
            self.forget()

    async def _exchanges(self, *levels: int) -> None:
        wanted = {_exchange(self.prefix, level) for level in levels} - self._known
        await _all(self.link.topology.declare_exchange(name) for name in wanted)
        self._known |= wanted

    async def _declare(self, step: Step) -> None:
        topology, source = self.link.topology, _exchange(self.prefix, step.exchange)
        if not step.digit:
            await topology.bind_exchange(_exchange(self.prefix, -1), source, step.key)
        else:
            queue, arguments = self._rung(step.level, step.digit)
            if queue not in self._known:
                await topology.declare_queue(queue, arguments)
            await topology.bind(queue, source, step.key)
            self._known.add(queue)
        self._known.add(step)

    def _rung(self, level: int, digit: int) -> tuple[str, dict[str, Any]]:
        """The name and the arguments of the queue for a digit."""
        below = _exchange(self.prefix, level - 1)
        return f"{self.prefix}.{level}.{digit:x}", _parking(digit << 4 * level, below)


def _parking(delay: int, exchange: str) -> dict[str, Any]:
    """The arguments of a queue where messages wait so many milliseconds, and then go to an exchange."""
    return {
        **QUORUM,
        "x-delivery-limit": ENDLESS,
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-strategy": "at-least-once",
        "x-message-ttl": delay,
        "x-overflow": "reject-publish",
    }


async def _all(asked: Any) -> None:
    """Wait for all, whether or not one fails; then raise what failed."""
    waiting: list[Awaitable[Any]] = list(asked)
    for answer in await asyncio.gather(*waiting, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer


def _exchange(prefix: str, level: int) -> str:
    return f"{prefix}.{'out' if level < 0 else level}"


def _token(target: str) -> str:
    """What stands for a queue in a key: its name, or a digest of one that a key cannot have."""
    return target if PLAIN.fullmatch(target) else hashlib.sha256(target.encode()).hexdigest()[:32]
