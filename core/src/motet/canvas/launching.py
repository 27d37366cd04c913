"""How a term finds the app that submits it, without knowing what an app is."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from motet.errors import UsageError
from motet.options import Options

if TYPE_CHECKING:
    from motet.canvas.terms import Term

__all__ = ["Launcher", "Submission", "current", "launcher"]


class Submission(Options, total=False):
    """What `submit` takes besides arguments."""

    id: str
    unique: str


class Launcher(Protocol):
    """What submits a term: the app."""

    async def launch(self, term: Term[Any, Any], options: Submission) -> Any:
        """Compile and publish."""
        ...

    def stands_for(self, other: Launcher) -> bool:
        """Whether it submits what belongs to another app."""
        ...

    def apply(self, term: Term[Any, Any]) -> Any:
        """Run here and now, on a private memory backend."""
        ...


current: ContextVar[Launcher | None] = ContextVar("motet.current", default=None)
"""The app that is open in this context; a term that was read from data uses it."""


def launcher(term: Term[Any, Any]) -> Launcher:
    """Find the app to submit a term with: that of its tasks, else the one that is open here.

    Raises:
        UsageError: There is neither.
    """
    here, found = current.get(), term.home
    if here is not None and (found is None or here.stands_for(found)):
        return here
    if found is None:
        raise UsageError("this term belongs to no app: open one first, `async with app:`")
    return found
