"""Where the server is: what a URL says, and how the primary is found that keeps our keys now."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import attrs
from redis.asyncio import connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from motet.errors import BadBackend
from motet_redis.errors import moved_to

__all__ = ["Location", "locate"]

SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "redis+sentinel": "redis",
    "rediss+sentinel": "rediss",
    "redis+cluster": "redis",
    "rediss+cluster": "rediss",
}
SENTINEL_PORT, PORT = 26379, 6379

Address = tuple[str, int]


@attrs.define
class Location:
    """How to connect, and to whom: one server, or whoever sentinels or a cluster name."""

    name: str
    """The URL without its password, for errors and logs."""
    options: dict[str, Any]
    seeds: list[Address]
    service: str = ""
    clustered: bool = False
    primary: Address | None = None
    """Who was the primary when last asked; of a cluster, of our slot."""

    async def connect(self, tag: str, timeout: float) -> Any:
        """Open a connection to the primary; with a cluster, to the one that has the slot of `tag`.

        Raises:
            RedisError: Nobody could be reached, or somebody refused.
            OSError: The same.
        """
        if self.service:
            return await self.open(await self.ask_sentinels(timeout), timeout)
        if not self.clustered:
            return await self.open(self.seeds[0] if self.seeds else None, timeout)
        failure: Exception | None = None
        known: list[Address] = [self.primary] if self.primary else []
        for address in dict.fromkeys((*known, *self.seeds)):
            try:
                return await self.follow(address, tag, timeout)
            except (RedisError, OSError) as error:
                failure = error
        assert failure is not None
        raise failure

    async def follow(self, address: Address, tag: str, timeout: float) -> Any:
        """Go where a node of a cluster says that a key is."""
        for _ in range(5):
            made = await self.open(address, timeout)
            try:
                await made.send_command("EXISTS", tag)
                await made.read_response()
                await self.learn(made)
            except ResponseError as refused:
                await made.disconnect()
                there = moved_to(refused)
                if there is None:
                    raise
                address = there[0] or address[0], there[1]
            except BaseException:
                await made.disconnect()
                raise
            else:
                self.primary = address
                return made
        raise RedisError(f"the nodes of the cluster send from one to the other for {tag}")

    async def learn(self, made: Any) -> None:
        """Remember the other nodes: the ones in the URL may be gone when they are needed."""
        await made.send_command("CLUSTER", "SLOTS")
        slots: list[list[Any]] = await made.read_response()
        for _, _, *nodes in slots:
            for host, port, *_ in nodes:
                address = host.decode() or made.host, int(port)
                if address not in self.seeds:
                    self.seeds.append(address)

    async def ask_sentinels(self, timeout: float) -> Address:
        """Ask one sentinel after the other who the primary is."""
        failure: Exception = RedisError(f"no sentinel knows a primary named {self.service}")
        for host, port in self.seeds:
            made: Any = connection.Connection(host=host, port=port, socket_connect_timeout=timeout, **_patient(timeout))
            try:
                await made.connect()
                await made.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
                if found := await made.read_response():
                    self.primary = found[0].decode(), int(found[1])
                    return self.primary
            except (RedisError, OSError) as error:
                failure = error
            finally:
                await made.disconnect()
        raise failure

    async def open(self, address: Address | None, timeout: float) -> Any:
        options = dict(self.options)
        kind = options.pop("connection_class", connection.Connection)
        if address is not None:
            options["host"], options["port"] = address
        if kind is not connection.UnixDomainSocketConnection:
            options.setdefault("socket_keepalive", True)
        made: Any = kind(**options, socket_connect_timeout=timeout, **_patient(None))
        try:
            await made.connect()
        except BaseException:
            await made.disconnect(nowait=True)  # whoever is cancelled while it says hello leaves no socket behind
            raise
        return made


def _patient(timeout: float | None) -> dict[str, Any]:
    """No retries behind our back, and no timeouts but ours: a command that is sent twice may be done twice."""
    return {"retry": Retry(NoBackoff(), 0), "socket_timeout": timeout, "protocol": 2, "health_check_interval": 0}


def locate(url: str) -> Location:
    """Read a URL.

    `redis://user:password@host:port/db`, `rediss://` for TLS, `unix:///path?db=0`, `redis+sentinel://host,host/service`
    and `redis+cluster://host,host`; what redis-py knows in a query string it is told.

    Raises:
        BadBackend: It names no server.
    """
    from motet.backends import masked

    parts = urlsplit(url)
    plain = SCHEMES.get(parts.scheme)
    if plain is None:
        raise BadBackend(f"{masked(url)!r}: write {', '.join(f'{each}://' for each in SCHEMES)}")
    mode = parts.scheme.partition("+")[2]
    credentials, _, hosts = parts.netloc.rpartition("@")
    seeds = [_address(each, SENTINEL_PORT if mode == "sentinel" else PORT) for each in hosts.split(",") if each]
    path, service = parts.path, ""
    if mode == "sentinel":
        service, _, database = path.strip("/").partition("/")
        path = f"/{database}"
        if not service or not seeds:
            raise BadBackend(f"{masked(url)!r}: write redis+sentinel://host:26379,host:26379/NAME-OF-THE-PRIMARY")
    first = f"{seeds[0][0]}:{seeds[0][1]}" if seeds else ""
    query = urlencode(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    user = f"{credentials}@" if credentials else ""
    try:
        options: dict[str, Any] = dict(
            connection.parse_url(f"{plain}://{user}{first}{path}{'?' if query else ''}{query}")
        )
    except ValueError as error:
        raise BadBackend(f"{masked(url)!r}: {error}") from error
    if plain != "unix":
        options.setdefault("host", "localhost")
        options.setdefault("port", PORT)
    seeds = seeds or ([] if plain == "unix" else [(options["host"], options["port"])])
    return Location(masked(url), options, seeds, unquote(service), mode == "cluster")


def _address(text: str, port: int) -> Address:
    host, colon, number = text.rpartition(":")
    if not colon or "]" in number:
        return text.strip("[]"), port
    return host.strip("[]"), int(number)
