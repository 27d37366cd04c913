"""The root command: what all verbs share, and where errors become exit codes. A verb's module is imported when used."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import click

from motet.cli import exits
from motet.errors import MotetError, UsageError

__all__ = ["LazyGroup", "app_option", "cli", "json_option", "target_of"]

F = TypeVar("F", bound=Callable[..., Any])

VERBS = {
    "worker": ("worker:worker", "Run worker processes."),
    "call": ("call:call", "Run a task here and now, without a broker."),
    "submit": ("call:submit", "Hand a task to the workers."),
    "tasks": ("call:tasks", "List the tasks of the app."),
    "run": ("run:run", "Look at runs, wait for them, cancel them."),
    "queue": ("queue:queue", "Look at queues, pause, resume and empty them."),
    "doctor": ("doctor:doctor", "Check that everything works, and say what to do if not."),
    "demo": ("demo:demo", "Watch a real job on several worker processes, one of which is killed."),
}


class LazyGroup(click.Group):
    """A group whose verbs are imported when they are used: `motet worker` needs nothing of the others."""

    def __init__(self, *args: Any, verbs: dict[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*args, **options)
        self.verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.verbs:
            return None
        module, _, name = self.verbs[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"motet.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.verbs.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; what Motet raises on purpose becomes one line and a code."""
        try:
            return super().invoke(ctx)
        except (MotetError, ExceptionGroup) as raised:
            error = lone(raised)
            if not isinstance(error, MotetError):
                raise
            report(error)
            ctx.exit(exits.code_of(error))
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(exits.INTERRUPTED)
        except BrokenPipeError:
            # Whoever reads our output has enough, as `head` does.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            ctx.exit(exits.FAILED)


def lone(error: Exception) -> Exception:
    """Unwrap groups of one: task groups wrap what is raised in them."""
    inner: tuple[Any, ...] = getattr(error, "exceptions", ())
    return lone(inner[0]) if len(inner) == 1 else error


def report(error: MotetError) -> None:
    """Print an error, after the traceback of the user's code that caused it, if one did."""
    if isinstance(error, UsageError) and error.__cause__ is not None:
        import traceback

        click.echo("".join(traceback.format_exception(error.__cause__)), err=True, nl=False)
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(str(error), err=True)


@click.group(
    cls=LazyGroup,
    verbs=VERBS,
    epilog=exits.HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("-A", "--app", metavar="APP", envvar="MOTET_APP", show_envvar=True, help="module:attr, or file.py:attr.")
@click.version_option(package_name="motet", message="motet %(version)s")
@click.pass_context
def cli(ctx: click.Context, app: str | None) -> None:
    """Background tasks that compose, on the broker that is there already."""
    ctx.obj = app


def app_option(command: F) -> F:
    """Let `-A` stand after the verb, too."""

    def keep(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value:
            ctx.find_root().obj = value

    option = click.option(
        "-A", "--app", metavar="APP", expose_value=False, callback=keep, help="module:attr of the app."
    )
    return option(command)


def json_option(command: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def target_of(ctx: click.Context) -> str:
    """Return what `-A` or `MOTET_APP` says.

    Raises:
        UsageError: Neither says anything.
    """
    target: str | None = ctx.find_root().obj
    if not target:
        raise UsageError("which app? give -A module:attr (or file.py:attr), or set MOTET_APP")
    return target
