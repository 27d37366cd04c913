"""`motet worker`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from motet.cli import logs
from motet.cli.root import app_option, target_of
from motet.cli.target import roots
from motet.options import Size, valid_queue

__all__ = ["worker"]

F = TypeVar("F", bound=Callable[..., Any])


def names(*known: str) -> Callable[[click.Context, click.Parameter, str | None], tuple[str, ...] | None]:
    """Return what reads names separated by commas: of queues, or some of those that are known."""

    def read(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[str, ...] | None:
        if text is None:
            return None
        found = tuple(each.strip() for each in text.split(",") if each.strip())
        for each in found:
            if known and each not in known:
                raise click.BadParameter(f"{each!r} is none of {', '.join(known)}", ctx, parameter)
            if not known and not valid_queue(each):
                advice = "use letters, digits, '-', '_' and '.', at most 64"
                raise click.BadParameter(f"{each!r} is no queue: {advice}", ctx, parameter)
        if not found:
            raise click.BadParameter("name at least one", ctx, parameter)
        return found

    return read


def option(*names: str, variable: str, **settings: Any) -> Callable[[F], F]:
    """An option that an environment variable may give."""
    return click.option(*names, envvar=f"MOTET_{variable}", show_envvar=True, **settings)


@click.command
@click.argument("target", metavar="[APP]", required=False)
@app_option
@option("-w", "--workers", variable="WORKERS", type=click.IntRange(1), default=1, help="Processes.  [default: 1]")
@option(
    "-c", "--concurrency", variable="CONCURRENCY", type=click.IntRange(1), help="Tasks per process.  [default: 100]"
)
@option(
    "-Q", "--queues", variable="QUEUES", callback=names(), metavar="A,B", help="Queues to serve.  [default: default]"
)
@option(
    "--size", "sizes", variable="SIZE", callback=names(*Size), metavar="S,M", help="Sizes to serve.  [default: all]"
)
@option("--threads", variable="THREADS", type=click.IntRange(1), help="Threads for plain functions.  [default: 40]")
@option("--burst", variable="BURST", is_flag=True, help="End when nothing is left to do.")
@option("--reload", variable="RELOAD", is_flag=True, help="Start again when a source file changes.")
@option("--grace", variable="GRACE", type=click.FloatRange(0), help="Seconds to finish in when stopped.  [default: 30]")
@option("-l", "--log-level", variable="LOG_LEVEL", type=click.Choice(logs.LEVELS, case_sensitive=False), default="info")
@option("--log-format", variable="LOG_FORMAT", type=click.Choice(logs.FORMATS), default="text", help="One line each.")
@click.pass_context
def worker(
    ctx: click.Context, /, target: str | None, workers: int, *, reload: bool, burst: bool, **chosen: Any
) -> None:
    """Run worker processes until stopped.

    The first SIGINT or SIGTERM lets running tasks finish, for as long as the grace; a second one kills.
    A worker that dies is replaced. The exit code is 0 after a clean stop.
    """
    from motet.cli.supervisor import Supervisor

    target = target or target_of(ctx)
    settings = {name: value for name, value in chosen.items() if value is not None}
    if burst:
        settings["burst"] = True
    logs.configure(settings["log_level"], settings["log_format"])
    if os.name != "posix":  # no signals to pass on: one process, this one
        from motet.cli.child import run

        ctx.exit(run(target, settings, int))
    grace = settings.get("grace", 30.0)
    watch = roots(target) if reload else ()
    ctx.exit(Supervisor(target, settings, workers=workers, grace=grace, burst=burst, watch=watch).run())
