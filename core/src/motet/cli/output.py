"""What the verbs print: tables and lines for people, JSON for programs. rich is imported only when it draws."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from motet.outcome import ErrorInfo

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

__all__ = ["console", "error_data", "error_tree", "moment", "plain", "print_json", "print_table", "shorten", "text_of"]

CAUSES = 5
"""Causes shown of one error."""


def console(*, stderr: bool = False) -> Console:
    """Return where to draw; it honours NO_COLOR, and writes plain unwrapped text when nobody watches."""
    from rich.console import Console

    drawn = Console(stderr=stderr, highlight=False)
    return drawn if drawn.is_terminal else Console(stderr=stderr, highlight=False, width=1000)


def print_json(data: Any) -> None:
    """Print data as JSON, one document."""
    click.echo(json.dumps(plain(data), indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows under headings; columns of numbers stand to the right. Without rows say why."""
    from rich.table import Table

    listed = [list(row) for row in rows]
    if not listed:
        click.echo(empty)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        numeric = all(isinstance(row[number], int | float) for row in listed)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        table.add_row(*map(_cell, row))
    console().print(table)


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def plain(value: Any) -> Any:
    """Turn what a task may return into what JSON can say."""
    import msgspec

    def other(thing: Any) -> Any:
        if hasattr(thing, "model_dump"):
            return thing.model_dump(mode="json")
        return thing.to_mapping() if hasattr(thing, "to_mapping") else repr(thing)

    return msgspec.to_builtins(value, str_keys=True, enc_hook=other)


def text_of(value: Any) -> str:
    """Write a value for a person: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(plain(value), indent=2, ensure_ascii=False)


def shorten(text: str, limit: int) -> str:
    """Cut a text, and say so."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text):,} characters)"


def moment(timestamp: float) -> str:
    """Write an instant in local time."""
    return datetime.fromtimestamp(timestamp, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def error_data(error: ErrorInfo | None) -> Mapping[str, Any] | None:
    """An error as data, without its tag."""
    if error is None:
        return None
    data: dict[str, Any] = plain(error)
    return {name: value for name, value in data.items() if name != "motet"}


def error_tree(error: ErrorInfo, tree: Tree | None = None, depth: int = 3) -> Tree:
    """Draw an error and what caused it."""
    from rich.text import Text
    from rich.tree import Tree

    label = Text(shorten(str(error), 500))
    branch = Tree(label, guide_style="dim") if tree is None else tree.add(label)
    if depth:
        for cause in error.causes[:CAUSES]:
            error_tree(cause, branch, depth - 1)
        if len(error.causes) > CAUSES:
            branch.add(Text(f"and {len(error.causes) - CAUSES} more", style="dim"))
    return branch
