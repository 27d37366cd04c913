"""One client of a server: scripts are called on one shared connection, and sent again when it breaks."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis import connection as threads
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
from redis.exceptions import NoScriptError, RedisError, ResponseError

from motet.errors import BackendError, Rejected, Unavailable, UsageError
from motet.failpoints import register
from motet.ports import Settings
from motet_redis.errors import BROKEN, elsewhere, translate
from motet_redis.location import Location
from motet_redis.pipe import Pipe
from motet_redis.scripts import KNOWN, Script

__all__ = ["FAILPOINTS", "Client"]

log: logging.Logger = logging.getLogger("motet.redis")

FAILPOINTS = register(
    {
        "after_script": "the server has carried a batch out, and nobody here has read the answer",
        "after_fetch": "the server has leased messages to this worker, which has not read the answer",
    }
)

OLDEST = (6, 2)
PAUSES = (0.0, 0.05, 0.1, 0.2, 0.5)
"""Seconds before each attempt to connect; the last one for all that follow."""

SETTLING = 0.05
"""Seconds before the primary is looked for again, when whom we asked is not: one is being chosen."""


class Client:
    """What the ports of one backend share. Every script is such that it may be called twice."""

    def __init__(self, location: Location, settings: Settings) -> None:
        self.location = location
        self.settings = settings
        self.timeout: float = settings.timeout.total_seconds()
        self.tag: str = "{" + settings.namespace.replace("{", "(").replace("}", ")") + "}"
        self.id: str = secrets.token_hex(6)
        self.closed: bool = False
        self.pipe: Pipe | None = None
        self.others: set[Pipe] = set()
        self.connecting: asyncio.Lock = asyncio.Lock()
        self.failure: BaseException | None = None
        self.thread_lock: threading.Lock = threading.Lock()
        self.thread_connection: Any = None

    def check(self) -> None:
        """Refuse a client that was closed (B4).

        Raises:
            UsageError: It was.
        """
        if self.closed:
            raise UsageError("this redis backend is closed")

    # Calling.

    async def call(self, script: Script, *arguments: Any, again: Sequence[Any] | None = None) -> Any:
        """Call a script, again and again while the connection breaks or the primary is elsewhere.

        Whoever must know that a call was made before gives other arguments for that case.

        Raises:
            Unavailable: There was no answer within the timeout; it may have been done.
            Rejected: The server refused.
        """
        command: tuple[Any, ...] = ("EVALSHA", script.digest, 1, self.tag, *arguments)
        pipe, begun = self.pipe, time.monotonic()
        failure: BaseException | None = None
        if pipe is not None and pipe.broken is None and not self.closed:
            try:  # nearly always; the pipe itself sees to the time
                return await pipe.send(*command)
            except (*BROKEN, ResponseError) as error:
                failure = error
        try:
            async with asyncio.timeout(begun + self.timeout - time.monotonic()):
                while True:
                    if failure is not None and pipe is not None:
                        command = await self.mend(pipe, failure, script, command, again)
                    self.check()
                    pipe = await self.connected()
                    try:
                        return await pipe.send(*command)
                    except (*BROKEN, ResponseError) as error:
                        failure = error
        except TimeoutError as error:
            raise self.unanswered(self.failure or failure) from error
        except RedisError as error:
            raise translate(error, self.location.name) from error

    def tell(self, script: Script, *arguments: Any) -> None:
        """Call a script without a look at its answer: of what a broken connection loses, nobody hears."""
        if self.pipe is not None and self.pipe.broken is None:
            self.pipe.send("EVALSHA", script.digest, 1, self.tag, *arguments)

    async def mend(
        self, pipe: Pipe, failure: BaseException, script: Script, command: tuple[Any, ...], again: Sequence[Any] | None
    ) -> tuple[Any, ...]:
        """See to it that a call which has failed can be made once more, and return what is then to be sent.

        Raises:
            ResponseError: The server has refused it, and will again.
        """
        if isinstance(failure, NoScriptError):
            with suppress(*BROKEN):
                await pipe.send("SCRIPT", "LOAD", script.text)
            return command
        away = elsewhere(failure)
        if isinstance(failure, ResponseError) and not away:
            raise failure
        pipe.breaks(failure)
        if away:
            await asyncio.sleep(SETTLING)
        return command if again is None else (*command[:4], *again)

    def unanswered(self, last: BaseException | None) -> BackendError:
        """Say that nobody answered, and what was heard last."""
        if last is not None:
            return Unavailable(f"{translate(last, self.location.name)}; gave up after {self.timeout:g} s")
        return Unavailable(f"{self.location.name}: no answer within {self.timeout:g} s")

    async def connected(self) -> Pipe:
        """Return the shared connection, made anew if it has broken; callers go on in the order in which they came."""
        if self.pipe is not None and self.pipe.broken is None:
            return self.pipe
        async with self.connecting:
            attempt = 0
            while self.pipe is None or self.pipe.broken is not None:
                self.check()
                if self.pipe is not None:
                    broken, self.pipe = self.pipe, None
                    await broken.close()
                await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
                attempt += 1
                with suppress(*BROKEN, ResponseError):  # what will not go away is raised as ours
                    self.pipe = await self.connect()
            self.failure = None
            return self.pipe

    async def connect(self) -> Pipe:
        """Open a connection on which every script is known.

        Raises:
            Rejected: The server lets nobody in who comes so.
        """
        try:
            pipe = Pipe(await self.location.connect(self.tag, self.timeout), patience=self.timeout)
        except (RedisError, OSError) as error:
            self.failure = error
            said = translate(error, self.location.name)
            if isinstance(said, Rejected):
                raise said from error
            raise
        try:
            for answer in [pipe.send("SCRIPT", "LOAD", script.text) for script in KNOWN.values()]:
                await answer
        except BaseException as error:
            if isinstance(error, Exception):  # not the end of the caller's patience
                self.failure = error
            await pipe.close()
            if isinstance(error, ResponseError) and not elsewhere(error):
                raise translate(error, self.location.name) from error
            raise
        return pipe

    async def own(self) -> Pipe:
        """Open a connection for one who waits on it. It is closed with the client, or by `leave`."""
        self.check()
        pipe = Pipe(await self.location.connect(self.tag, self.timeout))
        if self.closed:
            await pipe.close()
        self.check()
        self.others.add(pipe)
        return pipe

    async def leave(self, pipe: Pipe) -> None:
        """Close a connection that `own` has opened."""
        self.others.discard(pipe)
        await pipe.close()

    # From other threads.

    def call_from_thread(self, script: Script, *arguments: Any) -> Any:
        """Call a script and block, on a connection of its own; for whoever has no event loop.

        Raises:
            Unavailable: There was no answer; it may have been done.
        """
        self.check()
        with self.thread_lock:
            for last in (False, True):
                made = self.thread_connection or self.thread_connect()
                self.thread_connection = made
                try:
                    try:
                        made.send_command("EVALSHA", script.digest, 1, self.tag, *arguments)
                        return made.read_response()
                    except NoScriptError:
                        made.send_command("EVAL", script.text, 1, self.tag, *arguments)
                        return made.read_response()
                except (*BROKEN, ResponseError) as error:
                    made.disconnect()
                    self.thread_connection = None
                    if last:
                        raise translate(error, self.location.name) from error
        raise AssertionError  # the second attempt has returned or raised

    def thread_connect(self) -> Any:
        """Make the connection of other threads."""
        options = dict(self.location.options)
        kind: Any = {
            SSLConnection: threads.SSLConnection,
            UnixDomainSocketConnection: threads.UnixDomainSocketConnection,
        }
        made = kind.get(options.pop("connection_class", None), threads.Connection)
        if (address := self.location.primary or next(iter(self.location.seeds), None)) is not None:
            options["host"], options["port"] = address
        return made(
            **options,
            socket_timeout=self.timeout,
            socket_connect_timeout=self.timeout,
            protocol=2,
            health_check_interval=0,
        )

    # Beginning and end.

    async def start(self) -> None:
        """Connect, and look whether the server is one to entrust work to.

        Raises:
            Unavailable: Nobody answers.
            Rejected: The server is too old, evicts keys, or lets nobody in who comes so.
        """
        try:
            async with asyncio.timeout(self.timeout):
                pipe = await self.connected()
                facts = _facts(await pipe.call("INFO"))
        except TimeoutError as error:
            raise self.unanswered(self.failure) from error
        except (RedisError, OSError) as error:
            raise translate(error, self.location.name) from error
        version = tuple(map(int, facts.get("redis_version", "0.0").split(".")[:2]))
        if version < OLDEST:
            raise Rejected(f"{self.location.name}: Redis {facts['redis_version']} is too old: 6.2 or newer is needed")
        policy = facts.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and facts.get("maxmemory", "0") != "0":
            raise Rejected(
                f"{self.location.name}: maxmemory-policy is {policy}: a server that is full would throw tasks away; "
                "set it to noeviction"
            )
        if facts.get("aof_enabled") == "0":
            log.warning(
                "%s has no AOF: what was accepted is lost with the server; set appendonly yes", self.location.name
            )

    async def close(self) -> None:
        """Hang up, and refuse whatever comes."""
        self.closed = True
        for pipe in (self.pipe, *self.others):
            if pipe is not None:
                await pipe.close()
        with self.thread_lock:
            if self.thread_connection is not None:
                self.thread_connection.disconnect()


def _facts(info: bytes) -> dict[str, str]:
    lines = info.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
