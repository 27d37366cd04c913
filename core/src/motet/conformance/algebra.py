"""The free interpretation of terms: a leaf says its name and its input, so that a value tells how it came about.

`denote` is the meaning of a term as the laws define it; what the engine makes of the same term must agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from motet.app import Motet
from motet.canvas.terms import Chain, Group, Recovered, Signature, Term

__all__ = ["NOTHING", "Err", "Meaning", "Ok", "app", "boom", "denote", "identity", "inner_meaning", "leaf", "rescue"]

app: Motet = Motet("memory://", result_ttl=60)

NOTHING: Any = object()
"""What an empty chain hands on when it was given nothing; seen from outside it is None."""


@app.task(name="laws:leaf")
async def leaf(*args: Any) -> list[Any]:
    """Return what it was given: its input, if it takes one, and its name."""
    return list(args)


@app.task(name="laws:boom")
async def boom(*args: Any) -> Any:
    """Fail under its name."""
    raise RuntimeError(f"boom {args[-1]}")


@app.task(name="laws:identity")
async def identity(value: Any) -> Any:
    """Hand its input on."""
    return value


@app.task(name="laws:rescue")
async def rescue(_error: Any) -> list[Any]:
    """Take over, whatever the error was: the laws say only that it is called."""
    return ["rescued"]


@dataclass(frozen=True)
class Ok:
    """A value."""

    value: Any


@dataclass(frozen=True)
class Err:
    """A failure; `leaves` are the names of the failed leaves in order."""

    leaves: tuple[str, ...]


Meaning = Ok | Err


def denote(term: Term[Any, Any], given: tuple[Any, ...] = ()) -> Meaning:
    """Say what a term means; `given` is empty, or holds the one input."""
    meaning = inner_meaning(term, given)
    return Ok(None) if meaning == Ok(NOTHING) else meaning


def inner_meaning(term: Term[Any, Any], given: tuple[Any, ...]) -> Meaning:
    """Say the same from inside: an empty chain that was given nothing hands on nothing."""
    match term:
        case Signature(task=task, args=args, immutable=immutable):
            arguments = args if immutable else (*given, *args)
            if task == "laws:boom":
                return Err((arguments[-1],))
            if task == "laws:identity":
                return Ok(arguments[0])
            return Ok(["rescued"] if task == "laws:rescue" else list(arguments))
        case Chain(steps=steps, drops=drops):
            for number, step in enumerate(steps):
                ended = inner_meaning(step, () if number in drops else given)
                if isinstance(ended, Err):
                    return ended
                given = () if ended.value is NOTHING else (ended.value,)
            return Ok(given[0] if given else NOTHING)
        case Group():
            members: tuple[Term[Any, Any], ...] = term.children
            ended_members = [denote(member, given) for member in members]
            failed = [name for ended in ended_members if isinstance(ended, Err) for name in ended.leaves]
            return (
                Err(tuple(failed)) if failed else Ok([ended.value for ended in ended_members if isinstance(ended, Ok)])
            )
        case Recovered(inner=inner, handler=handler):
            ended = inner_meaning(inner, given)
            return ended if isinstance(ended, Ok) else inner_meaning(handler, ("error",))
        case _:
            raise TypeError(term)
