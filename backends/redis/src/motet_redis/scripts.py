"""The Lua scripts: parts that are put together, each with what it needs before it."""

from __future__ import annotations

import hashlib
from importlib.resources import files

import attrs

__all__ = ["Script"]


@attrs.frozen
class Script:
    """A script by its digest; the server is sent the text only where it does not know that."""

    name: str
    text: str = attrs.field(repr=False)
    digest: str = attrs.field(repr=False)

    @classmethod
    def of(cls, *parts: str) -> Script:
        """Put a script together from files of `lua/`; the last one names it."""
        text = "\n".join(_read(part) for part in ("common", *parts))
        script = cls(parts[-1], text, hashlib.sha1(text.encode()).hexdigest())  # noqa: S324 - the server's way to name it
        return KNOWN.setdefault(script.digest, script)


KNOWN: dict[str, Script] = {}
"""Every script of this adapter; a new connection has the server learn them all, in one round trip."""


def _read(part: str) -> str:
    return (files("motet_redis") / "lua" / f"{part}.lua").read_text(encoding="utf-8")
