"""What the driver's errors mean to a caller: one table. No exception of redis-py crosses a port."""

from __future__ import annotations

import ssl
from typing import Any

from redis import exceptions

from motet.errors import BackendError, MotetError, Rejected, Unavailable

__all__ = ["BROKEN", "elsewhere", "moved_to", "refusal", "translate"]

BROKEN = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    OSError,
    EOFError,
    RuntimeError,  # uvloop: the handler of a dead transport is closed
)
"""What ends a connection. What was asked on it may or may not have been done."""

ELSEWHERE = ("READONLY", "MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN")
"""What a server answers that is not the primary of our keys now: nothing was done, and another one may be by then.

By words: what redis-py makes a class of differs from release to release.
"""
CLASSES = (
    exceptions.ReadOnlyError,
    exceptions.MovedError,
    exceptions.AskError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.MasterDownError,
)

Meaning = tuple[type[BackendError], str]

TABLE: dict[type[BaseException], Meaning] = {
    exceptions.AuthenticationError: (Rejected, "wrong user or password: correct the URL"),
    exceptions.AuthorizationError: (Rejected, "this user may not do that: grant it all commands on all our keys"),
    exceptions.NoPermissionError: (Rejected, "this user may not do that: grant it all commands on all our keys"),
    ssl.SSLError: (
        Rejected,
        "TLS failed: rediss:// is for a server that speaks TLS, with a certificate that is trusted",
    ),
    exceptions.BusyLoadingError: (Unavailable, "the server is loading its data; try again"),
    exceptions.ReadOnlyError: (
        Unavailable,
        "this is a read-only replica: name the primary, or find it by redis+sentinel:// or redis+cluster://",
    ),
    exceptions.MovedError: (Unavailable, "the server is part of a cluster: write redis+cluster://"),
    exceptions.ClusterDownError: (Unavailable, "the cluster is down, or our slot is not served"),
    exceptions.OutOfMemoryError: (
        Unavailable,
        "the server is out of memory: raise `maxmemory`, or let workers empty the queues; nothing was lost",
    ),
    exceptions.TimeoutError: (Unavailable, "no answer in time"),
    exceptions.ConnectionError: (Unavailable, "no connection"),
    exceptions.ResponseError: (Rejected, "the server refused"),
    OSError: (Unavailable, "no connection"),
    RuntimeError: (Unavailable, "the connection was closed"),
    EOFError: (Unavailable, "the connection was closed"),
}

WORDS: dict[str, Meaning] = {
    "WRONGTYPE": (Rejected, "somebody else's data is under our keys: choose another namespace or database"),
    "OOM": TABLE[exceptions.OutOfMemoryError],
    "MOVED": TABLE[exceptions.MovedError],
    "READONLY": TABLE[exceptions.ReadOnlyError],
    "CLUSTERDOWN": TABLE[exceptions.ClusterDownError],
    "NOREPLICAS": (Unavailable, "too few replicas are connected (min-replicas-to-write)"),
    "MISCONF": (Unavailable, "the server cannot write to its disk, and refuses changes until it can"),
    "NOAUTH": TABLE[exceptions.AuthenticationError],
    "WRONGPASS": TABLE[exceptions.AuthenticationError],
    "NOPERM": TABLE[exceptions.NoPermissionError],
    "BUSY": (Unavailable, "the server is busy with somebody's long script"),
    "UNBLOCKED": (Unavailable, "the server has become a replica"),
}
"""What an answer begins with, or has in it where a script was told; redis-py has no class for most."""


def elsewhere(error: BaseException) -> bool:
    """Say whether a server answered that it is not the one to ask."""
    return isinstance(error, CLASSES) or str(error).startswith(ELSEWHERE)


def moved_to(error: BaseException) -> tuple[str, int] | None:
    """Return where a node of a cluster says that a key is; the host is empty when it is the node's own."""
    there: Any = error
    if isinstance(error, exceptions.MovedError):
        return there.host, int(there.port)
    words = str(error).split()
    if words[:1] != ["MOVED"]:
        return None
    host, _, port = words[2].rpartition(":")
    return host, int(port)


def translate(error: BaseException, place: str) -> MotetError:
    """Return what to raise in place of an error; the original becomes its cause."""
    if isinstance(error, MotetError):
        return error
    if type(error) is exceptions.ConnectionError and isinstance(error.__context__, exceptions.ConnectionError):
        error = error.__context__  # on a unix socket redis-py hides a wrong password in an error of the connection
    classes = type(error).__mro__
    otherwise = next((TABLE[each] for each in classes if each in TABLE), (Rejected, "it failed"))
    ours = refusal(str(error), place, otherwise, type(error).__name__)
    ours.__cause__ = error
    return ours


def refusal(said: str, place: str, otherwise: Meaning, kind: str = "ResponseError") -> MotetError:
    """Return what to raise for a server's words."""
    start = said[:300]
    if "[SSL" in start:  # redis-py hides what failed in an error of the connection
        otherwise = TABLE[ssl.SSLError]
    meanings = (found for word, found in WORDS.items() if start.startswith(word) or f" {word} " in start)
    ours, advice = next(meanings, otherwise)
    return ours(f"{place}: {advice} ({kind}: {start})")
