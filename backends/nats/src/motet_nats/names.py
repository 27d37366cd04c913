"""What streams, subjects and consumers are called. One token of a subject for every name, whatever is in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from motet.options import Lane

__all__ = ["Names", "plain", "token"]

_safe = re.compile(r"[A-Za-z0-9_-]+").fullmatch
_unsafe = re.compile(rb"[^A-Za-z0-9_-]")
_quoted = re.compile(r"=([0-9A-F]{2})")


def token(name: str) -> str:
    """Quote a name so that it is one token of a subject."""
    if _safe(name):
        return name
    return _unsafe.sub(lambda found: b"=%02X" % found[0][0], name.encode()).decode() or "="


often: Callable[[str], str] = lru_cache(maxsize=10_000)(token)
"""The same, for names that come again and again: what follows the run in an id, or a record's name."""


def plain(quoted: str) -> str:
    """Read a token back."""
    if quoted == "=":
        return ""
    return _quoted.sub(lambda found: chr(int(found[1], 16)), quoted).encode("latin-1").decode()


class Names:
    """The names of one namespace.

    Messages: `m.<run>.<rest>.q.<lane>.<nonce>` is queued or held, `m.<run>.<rest>.d.<lane>.<nonce>` parked; whatever is
    under `m.<run>.<rest>` is of one id. `z.<nonce>` says that what was parked under the nonce was taken back.

    Records: `k.o.<run>.<name>`, and see `store.py`.
    """

    def __init__(self, namespace: str) -> None:
        space = token(namespace)
        self.root: str = f"motet.{space}"
        self.messages: str = f"motet-{space}-messages"
        self.records: str = f"motet-{space}-records"
        self.events: str = f"motet-{space}-events"
        self.letters: str = f"{self.root}.m"
        self.withdrawn: str = f"{self.root}.z"
        self.kept: str = f"{self.root}.k"
        self.news: str = f"{self.root}.w"
        self.happened: str = f"{self.root}.e"

    def of_id(self, name: str) -> str:
        """What all subjects of an id begin with."""
        run, _, rest = name.partition(":")
        return f"{self.letters}.{token(run)}.{often(rest)}"

    def of_run(self, run: str) -> str:
        """A filter for all messages of a run."""
        return f"{self.letters}.{token(run)}.>"

    def in_lane(self, state: str, lane: Lane) -> str:
        """A filter for all messages of a lane that are queued (`q`) or parked (`d`)."""
        return f"{self.letters}.*.*.{state}.{place(lane)}.*"

    def in_queue(self, state: str, queue: str) -> str:
        """A filter for all messages of a queue."""
        return f"{self.letters}.*.*.{state}.{token(queue)}.>"

    def record(self, kind: str, first: str, *rest: str) -> str:
        """The subject of a record."""
        return ".".join((self.kept, kind, token(first), *map(often, rest)))


@lru_cache(maxsize=10_000)
def place(lane: Lane) -> str:
    """A lane as tokens of a subject."""
    return f"{token(lane.queue)}.{token(lane.size)}.{lane.priority}"


def consumer(lane: Lane) -> str:
    """What the consumer of a lane is called."""
    return f"{token(lane.queue)}~{token(lane.size)}~{lane.priority}"


def lane_of(consumer: str) -> Lane | None:
    """Read the name of a consumer."""
    queue, _, rest = consumer.partition("~")
    size, _, priority = rest.partition("~")
    if not priority.lstrip("-").isdecimal():
        return None
    return Lane(plain(queue), plain(size), int(priority))


def lane_in(subject: str) -> Lane:
    """Read the lane in the subject of a message."""
    queue, size, priority = subject.split(".")[-4:-1]
    return Lane(plain(queue), plain(size), int(priority))


def sequence_of(receipt: str) -> tuple[int, int]:
    """Read the sequence of a message, and how often it was delivered, in the subject that acknowledges it."""
    parts = receipt.split(".")
    if parts[:2] != ["$JS", "ACK"] or len(parts) < 9:
        return 0, 0
    shift = 0 if len(parts) == 9 else 2  # newer servers name a domain and an account first
    return int(parts[5 + shift]), int(parts[4 + shift])


def pending(receipt: str) -> int:
    """Read how many messages were behind one in its lane."""
    parts = receipt.split(".")
    return int(parts[8 if len(parts) == 9 else 10]) if len(parts) >= 9 else 0
