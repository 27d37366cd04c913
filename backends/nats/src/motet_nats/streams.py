"""What is asked of streams: the last message of a subject, messages in order, counts, removals; and the streams."""

from __future__ import annotations

import base64
from datetime import timedelta
from functools import lru_cache
from typing import Any

import msgspec
from nats.errors import NoRespondersError

from motet.errors import Rejected
from motet_nats.client import Client, encode
from motet_nats.errors import MISSING, ServerError, translate
from motet_nats.link import Link, status

__all__ = ["Stored", "Streams"]

OLDEST = (2, 12)
ALL = 1_000_000_000
"""An offset past all subjects: then the server counts them, and lists none."""
PAGE = 500
EVENTS = 1500
"""Events that are kept (E4)."""
EXISTS = 10058
NO_STREAM = 10059


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A message in a stream."""

    sequence: int
    subject: str
    data: bytes


class Streams:
    """Reads and removes in the streams of a client; every read is answered by whoever decides what is stored (S2)."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.direct: bool = client.location.replicas == 1

    # Reading.

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Return the last message under a subject, which may have wildcards."""
        return await self._get(stream, {"last_by_subj": subject})

    async def at(self, stream: str, sequence: int) -> Stored | None:
        """Return the message with a sequence."""
        return await self._get(stream, {"seq": sequence})

    async def _get(self, stream: str, request: dict[str, Any]) -> Stored | None:
        if self.direct:
            message = await self.client.ask(f"$JS.API.DIRECT.GET.{stream}", encode(request))
            return None if status(message) else _stored(message)
        try:
            found = (await self.client.api(f"STREAM.MSG.GET.{stream}", request))["message"]
        except ServerError as error:
            if error.code in MISSING:
                return None
            raise translate(error, self.client.location.name) from error
        return Stored(found["seq"], found["subject"], base64.b64decode(found.get("data", "")))

    async def scan(
        self, stream: str, subject: str, first: int = 1, limit: int = ALL, last: int = ALL * ALL
    ) -> list[Stored]:
        """Return messages under a subject in the order of their sequences, from a sequence on to another."""
        found: list[Stored] = []
        while len(found) < limit:
            size = min(PAGE, limit - len(found))
            part = await self._page(stream, subject, first, size)
            found += [each for each in part if each.sequence <= last]
            if len(part) < size or part[-1].sequence >= last:
                break
            first = part[-1].sequence + 1
        return found

    async def _page(self, stream: str, subject: str, first: int, size: int) -> list[Stored]:
        request: dict[str, Any] = {"seq": first, "next_by_subj": subject}
        if not self.direct:
            one = await self._get(stream, request)
            found: list[Stored] = []
            while one is not None:
                found.append(one)
                if len(found) == size:
                    break
                one = await self._get(stream, {"seq": one.sequence + 1, "next_by_subj": subject})
            return found

        async def call(link: Link) -> list[Stored]:
            answers = await link.gather(f"$JS.API.DIRECT.GET.{stream}", encode({**request, "batch": size}))
            if status(answers[-1]) == "503":
                raise NoRespondersError
            return [_stored(answer) for answer in answers[:-1]]

        return await self.client.keep_asking(call)

    async def count(self, stream: str, subject: str) -> int:
        """Count the subjects that have a message."""
        answer = await self.info(stream, {"subjects_filter": subject, "offset": ALL})
        return int(answer.get("total", 0))

    async def subjects(self, stream: str, subject: str) -> list[str]:
        """List the subjects that have a message."""
        found: list[str] = []
        while True:
            answer = await self.info(stream, {"subjects_filter": subject, "offset": len(found)})
            part: dict[str, int] = answer["state"].get("subjects") or {}
            found += part
            if not part or len(found) >= answer.get("total", 0):
                return found

    async def info(self, stream: str, request: Any = None) -> dict[str, Any]:
        """Ask about a stream.

        Raises:
            Rejected: It is gone.
        """
        return await self.asked(f"STREAM.INFO.{stream}", request)

    async def consumer(self, stream: str, name: str) -> dict[str, Any] | None:
        """Ask about a consumer; None when somebody has removed it."""
        try:
            return await self.client.api(f"CONSUMER.INFO.{stream}.{name}")
        except ServerError as error:
            if error.code in MISSING:
                return None
            raise translate(error, self.client.location.name) from error

    async def asked(self, verb: str, request: Any = None) -> dict[str, Any]:
        """Call the API of JetStream, and translate what it refuses."""
        try:
            return await self.client.api(verb, request)
        except ServerError as error:
            raise translate(error, self.client.location.name) from error

    # Removing.

    async def delete(self, stream: str, sequence: int) -> bool:
        """Remove a message; False when it was gone."""
        try:
            await self.client.remove(stream, sequence)
        except ServerError as error:
            if error.code in MISSING:
                return False
            raise translate(error, self.client.location.name) from error
        return True

    async def purge(self, stream: str, subject: str) -> int:
        """Remove all messages under a subject."""
        answer = await self.asked(f"STREAM.PURGE.{stream}", {"filter": subject})
        return int(answer.get("purged", 0))

    # Making.

    async def make(self) -> None:
        """See to it that the streams are there, and are what they must be.

        Raises:
            Rejected: The server is too old, has no JetStream, or has streams of these names that are not ours.
        """
        names = self.client.names
        version = self.client.link.connection.connected_server_version if self.client.link else None
        if version is not None and (version.major, version.minor) < OLDEST:
            raise Rejected(
                f"{self.client.location.name}: NATS {version.major}.{version.minor}.{version.patch} is too old: "
                "2.12 or newer is needed, for it keeps messages for later"
            )
        common: dict[str, Any] = {
            "storage": "file",
            "num_replicas": self.client.location.replicas,
            "max_msgs_per_subject": 1,
            "discard": "old",
            "allow_direct": self.direct,
            "allow_msg_ttl": True,
            "allow_rollup_hdrs": True,
            "duplicate_window": round(timedelta(minutes=2).total_seconds() * 1e9),
        }
        await self._made(
            {
                **common,
                "name": names.messages,
                "subjects": [f"{names.letters}.>", f"{names.withdrawn}.*"],
                "retention": "workqueue",
                "allow_msg_schedules": True,
            }
        )
        news = {
            "src": f"{names.kept}.o.*.*",
            "dest": f"{names.news}.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}",
        }
        await self._made(
            {**common, "name": names.records, "subjects": [f"{names.kept}.>"], "retention": "limits", "republish": news}
        )
        await self._made(
            {
                **common,
                "name": names.events,
                "subjects": [names.happened],
                "retention": "limits",
                "max_msgs_per_subject": -1,
                "max_msgs": EVENTS,
            }
        )

    async def _made(self, wanted: dict[str, Any]) -> None:
        name = wanted["name"]
        try:
            made = await self.client.api(f"STREAM.INFO.{name}")
        except ServerError as error:
            if error.code != NO_STREAM:
                raise translate(error, self.client.location.name) from error
            try:
                made = await self.client.api(f"STREAM.CREATE.{name}", wanted)
            except ServerError as refused:
                if refused.code != EXISTS:
                    raise translate(refused, self.client.location.name) from refused
                made = await self.asked(f"STREAM.INFO.{name}")
        # What a server does not know it leaves out, and says nothing: what it echoes decides.
        has = made["config"]
        for key, value in wanted.items():
            if key not in ("num_replicas", "duplicate_window") and has.get(key) != value and (value or has.get(key)):
                raise Rejected(
                    f"{self.client.location.name}: stream {name} has {key}={has.get(key)!r}, and not {value!r}: "
                    "it is somebody else's, or of an older server; choose another namespace, or remove it"
                )


def _stored(message: Any) -> Stored:
    headers = message.headers
    return Stored(int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data)


@lru_cache(maxsize=100)
def seconds(ttl: timedelta) -> str:
    """A time to live in whole seconds, which is all that the server knows; never shorter."""
    return f"{max(1, -int(-ttl.total_seconds() // 1))}s"
