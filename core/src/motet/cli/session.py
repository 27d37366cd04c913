"""One verb's visit to the backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import anyio
import click

from motet.cli.root import target_of
from motet.cli.target import load_app

if TYPE_CHECKING:
    from motet.app import Motet

__all__ = ["visit"]

T = TypeVar("T")


def visit(ctx: click.Context, what: str, look: Callable[[Motet], Awaitable[T]]) -> T:
    """Open the app that the command line names, and call `look` with it.

    Raises:
        UsageError: There is no such app.
        NotSupported: Its state is in another process's memory (M14).
        BackendError: The backend cannot be reached.
    """
    app = load_app(target_of(ctx))

    async def inside() -> T:
        async with app:
            app.client.shared(what)
            return await look(app)

    return anyio.run(inside)
