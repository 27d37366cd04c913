"""Options as data: what a signature's mapping says of them, so that it can be JSON."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from motet import retry
from motet.options import Priority, Size

__all__ = ["read_option", "written"]


def written(value: Any) -> Any:
    """Write an option as JSON can carry it."""
    if isinstance(value, retry.RetryPolicy):
        return retry.to_mapping(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def read_option(name: str, value: Any) -> Any:
    """Read what `written` wrote."""
    match name, value:
        case "retry_policy", {"kind": str()}:
            mapping: Any = value
            return retry.policy(mapping)
        case "priority", int():
            return Priority(value)
        case "size", str():
            return Size(value)
        case (("eta" | "expires"), str()):
            return datetime.fromisoformat(value)
        case _:
            return value
