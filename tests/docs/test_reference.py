"""The reference pages leave nothing out: every setting with its default, every command with its options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import get_overloads

import attrs
import click
import pytest
from pages import ROOT

from motet import Motet
from motet.canvas.launching import Submission
from motet.cli.root import cli
from motet.options import Options as CallOptions
from motet.task import TaskDecorator
from motet.worker.options import Options

SETTINGS = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
CLI = (ROOT / "docs/cli.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, list[str]]:
    """Return the rows of a section's tables by the names in their first cells."""
    section = SETTINGS.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found: dict[str, list[str]] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        for name in re.findall(r"`(\w+)`", "".join(cells[:1])):
            found[name] = cells
    return found


def test_every_setting_of_the_app_is_listed_with_its_default() -> None:
    listed = rows("The app")

    for parameter in inspect.signature(Motet).parameters.values():
        default = '"' + parameter.default + '"' if isinstance(parameter.default, str) else repr(parameter.default)
        assert listed[parameter.name][1] == f"`{default}`"


def test_every_option_of_a_task_and_a_call_is_listed() -> None:
    listed = rows("A task, and one call of it")
    decorator = [inspect.signature(each).parameters.values() for each in get_overloads(TaskDecorator.__call__)]
    task = {each.name for parameters in decorator for each in parameters if each.kind is each.KEYWORD_ONLY}

    assert {name for name, cells in listed.items() if cells[2] == "yes"} == task
    assert {name for name, cells in listed.items() if cells[3] == "yes"} == set(CallOptions.__annotations__)
    assert {name for name, cells in listed.items() if cells[3]} == {*Submission.__annotations__}


def test_every_option_of_a_worker_is_listed_with_its_default() -> None:
    listed = rows("A worker")
    words = {"lease": "the app's", "sizes": "all", "processes": "one per CPU"}

    for field in attrs.fields(Options):
        default = field.default
        shown = f"{default.total_seconds():g}" if isinstance(default, timedelta) else str(default).replace("'", '"')
        assert listed[field.name][3] == words.get(field.name, f"`{shown}`")


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))
    else:
        yield path, command


@pytest.mark.parametrize(
    ("path", "command"), list(commands(cli)), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_is_listed_with_its_options(path: tuple[str, ...], command: click.Command) -> None:
    options = [
        option for each in command.params for option in (*each.opts, *each.secondary_opts) if option.startswith("--")
    ]

    assert [word for word in path if f"`{word}`" not in CLI] == []
    assert [option for option in options if option not in CLI and option != "--app"] == []


def test_every_variable_of_the_command_line_is_listed() -> None:
    variables = {each.envvar for _, command in commands(cli) for each in command.params if each.envvar}

    assert [name for name in variables if f"`{name}`" not in SETTINGS] == []
