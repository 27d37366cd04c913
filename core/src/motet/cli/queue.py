"""`motet queue`: look at queues, pause, resume and empty them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from motet.cli.output import print_json, print_table
from motet.cli.root import LazyGroup, app_option, json_option
from motet.cli.session import visit
from motet.errors import UsageError
from motet.options import CONTROL, valid_queue

if TYPE_CHECKING:
    from motet.app import Motet

__all__ = ["list_queues", "pause", "purge", "queue", "resume"]

queue: LazyGroup = LazyGroup(
    "queue",
    help="Look at queues, pause, resume and empty them.",
    verbs={
        "list": ("queue:list_queues", "List the queues and how much is in them."),
        "pause": ("queue:pause", "Stop delivering from a queue."),
        "resume": ("queue:resume", "Go on delivering from a queue."),
        "purge": ("queue:purge", "Cancel everything that is ready in a queue."),
    },
)


@click.command("list")
@app_option
@json_option
@click.pass_context
def list_queues(ctx: click.Context, *, as_json: bool) -> None:
    """List the queues: messages ready to be taken, held by workers, parked for later."""
    rows = visit(ctx, "listing queues", _queues)
    if as_json:
        print_json(rows)
        return
    cells = [
        (
            "(internal)" if each["queue"] == CONTROL.queue else each["queue"],
            each["ready"],
            each["held"],
            each["parked"],
            "paused" if each["paused"] else "",
        )
        for each in rows
    ]
    print_table(["queue", "ready", "held", "parked", "state"], cells, "all queues are empty")


async def _queues(app: Motet) -> list[dict[str, Any]]:
    """The queues that hold something or are paused, and those that the app's tasks name."""
    app.import_tasks()
    names = {app.registry.profile(each, {}).queue for each in app.registry.definitions.values()}
    rows = {
        name: {"queue": name, "ready": 0, "held": 0, "parked": 0, "paused": False} for name in sorted(names, key=str)
    }
    for info in await app.backend.transport.queues():
        rows[info.queue] = {
            "queue": info.queue,
            "ready": info.ready,
            "held": info.held,
            "parked": info.parked,
            "paused": info.paused,
        }
    return list(rows.values())


@click.command("pause")
@click.argument("name")
@app_option
@click.pass_context
def pause(ctx: click.Context, name: str) -> None:
    """Stop delivering from queue NAME; what workers hold they finish."""
    _set_paused(ctx, name, paused=True)
    click.echo(f"{name} is paused until `motet queue resume {name}`")


@click.command("resume")
@click.argument("name")
@app_option
@click.pass_context
def resume(ctx: click.Context, name: str) -> None:
    """Go on delivering from queue NAME."""
    _set_paused(ctx, name, paused=False)
    click.echo(f"{name} delivers")


def _set_paused(ctx: click.Context, name: str, *, paused: bool) -> None:
    checked(name)
    visit(ctx, "pausing a queue", lambda app: app.backend.transport.pause(name, paused=paused))


@click.command("purge")
@click.argument("name")
@app_option
@json_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def purge(ctx: click.Context, name: str, *, yes: bool, as_json: bool) -> None:
    """Cancel everything that is ready in queue NAME, paused or not.

    Whoever waits for it is told; what is held or parked stays.
    """
    checked(name)
    if not yes:
        click.confirm(f"Cancel everything that is ready in queue {name}?", abort=True, err=True)
    count = visit(ctx, "purging a queue", lambda app: _purged(app, name))
    if as_json:
        print_json({"queue": name, "cancelled": count})
    else:
        click.echo(f"cancelled {count} message{'s' if count != 1 else ''} of {name}")


async def _purged(app: Motet, name: str) -> int:
    from motet.engine.control import Control
    from motet.engine.purge import Purge

    client = app.client
    control = Control(app.backend, client.plans, client.values, app.clock, app.lease)
    return await Purge(app.backend, control, app.clock).queue(name)


def checked(name: str) -> None:
    if not valid_queue(name):
        raise UsageError(f"{name!r} is no queue: use letters, digits, '-', '_' and '.', at most 64")
