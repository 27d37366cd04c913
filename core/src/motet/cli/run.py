"""`motet run`: look at runs, wait for them, cancel them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from motet.cli import exits
from motet.cli.output import console, error_tree, moment, print_json, print_table, shorten, text_of
from motet.cli.root import LazyGroup, app_option, json_option
from motet.cli.session import visit
from motet.outcome import ErrorInfo

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.tree import Tree

    from motet.app import Motet

__all__ = ["cancel", "list_runs", "run", "show", "watch"]

COLOURS = {"success": "green", "failure": "red", "cancelled": "yellow", "running": "cyan"}

run: LazyGroup = LazyGroup(
    "run",
    help="Look at runs, wait for them, cancel them.",
    verbs={
        "show": ("run:show", "Show a run: state, progress, result or error, and what is in it."),
        "watch": ("run:watch", "Follow a run until it ends; the exit code says how."),
        "cancel": ("run:cancel", "Cancel a run: nothing more of it starts."),
        "list": ("run:list_runs", "List the newest runs."),
    },
)


@click.command("show")
@click.argument("id")
@app_option
@json_option
@click.option("--limit", type=click.IntRange(0), default=10, show_default=True, help="Children shown of each node.")
@click.option("--depth", type=click.IntRange(0), default=2, show_default=True, help="Levels of children shown.")
@click.pass_context
def show(ctx: click.Context, id: str, limit: int, depth: int, *, as_json: bool) -> None:
    """Show run ID: its state, progress, result or error, and what is in it."""
    from motet.cli.runs import seen

    data = visit(ctx, "showing a run", lambda app: seen(app, id, limit=limit, depth=depth))
    if as_json:
        print_json(data)
        return
    out = console()
    out.print(f"run       {data['id']}")
    if data.get("name"):
        out.print(f"name      {data['name']}", markup=False)
    if data.get("created"):
        out.print(f"created   {moment(data['created'])}")
    out.print(f"state     {coloured(data['state'])}")
    out.print(f"progress  {data['progress']['done']} of {data['progress']['total']} calls")
    if "result" in data:
        out.print(f"result    {shorten(text_of(data['result']), 1000)}", markup=False)
    if "note" in data:
        out.print(f"result    {data['note']}", markup=False)
    if data.get("error"):
        out.print(error_tree(_read(data["error"])))
    if data.get("children"):
        out.print(_drawn(data))


def _read(data: dict[str, Any]) -> ErrorInfo:
    import msgspec

    return msgspec.convert({"motet": "error", **data}, ErrorInfo)


def _drawn(data: dict[str, Any], tree: Tree | None = None) -> Tree:
    from rich.markup import escape
    from rich.tree import Tree

    label = f"{escape(data.get('name') or 'run')}  {coloured(data['state'])}"
    branch = Tree(label, guide_style="dim") if tree is None else tree.add(label)
    for child in data.get("children", ()):
        _drawn(child, branch)
    if data.get("more"):
        branch.add(f"[dim]and {data['more']} more[/dim]")
    return branch


def coloured(state: str) -> str:
    colour = COLOURS.get(state)
    return f"[{colour}]{state}[/{colour}]" if colour else state


@click.command("watch")
@click.argument("id")
@app_option
@json_option
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Stop watching after so long.")
@click.pass_context
def watch(ctx: click.Context, id: str, timeout: float | None, *, as_json: bool) -> None:
    """Follow run ID until it ends. Exit code 0 if it succeeded, 1 if it failed or was cancelled.

    With --json each change of the progress is one line.
    """
    data = visit(ctx, "watching a run", lambda app: _watched(app, id, timeout, as_json=as_json))
    if as_json:
        click.echo(_line(data))
    elif data["state"] == "success":
        if "result" in data:
            click.echo(text_of(data["result"]))
    else:
        out = console(stderr=True)
        reason = f": {data['error']['message']}" if data["state"] == "cancelled" and data.get("error") else ""
        out.print(f"run {id}: {coloured(data['state'])}{reason}")
        if data["state"] == "failure" and data.get("error"):
            out.print(error_tree(_read(data["error"])))
    ctx.exit(exits.OK if data["state"] == "success" else exits.FAILED)


def _line(data: Any) -> str:
    import json

    from motet.cli.output import plain

    return json.dumps(plain(data), ensure_ascii=False)


async def _watched(app: Motet, id: str, timeout: float | None, *, as_json: bool) -> dict[str, Any]:
    from datetime import timedelta

    import anyio

    from motet.cli.runs import ended
    from motet.errors import ResultTimeout

    handle = app.handle(id)
    await app.client.require(handle.id)
    with anyio.move_on_after(timeout) as patience, _bar(as_json=as_json) as bar:
        job = bar.add_task(id)
        async for progress in handle:
            if as_json:
                click.echo(_line({"id": id, "done": progress.done, "total": progress.total}))
            bar.update(job, completed=progress.done, total=progress.total)
    status = await handle.status()
    if patience.cancelled_caught and not status.ready:
        raise ResultTimeout(id, timedelta(seconds=timeout or 0))
    return {"id": id, "state": status.state, **await ended(handle)}


def _bar(*, as_json: bool) -> Bar:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    out = console(stderr=True)
    return Progress(*columns, console=out, disable=as_json or not out.is_terminal, transient=True)


@click.command("cancel")
@click.argument("id")
@app_option
@json_option
@click.option("--reason", default="", help="Why; whoever waits for the run is told.")
@click.pass_context
def cancel(ctx: click.Context, id: str, reason: str, *, as_json: bool) -> None:
    """Cancel run ID: what has not started will not start, what runs is told to stop."""

    async def ask(app: Motet) -> str:
        handle = app.handle(id)
        await app.client.require(handle.id)
        status = await handle.status()
        if status.waiting:
            await handle.cancel(reason)
        return status.state if status.ready else "cancelling"

    state = visit(ctx, "cancelling a run", ask)
    if as_json:
        print_json({"id": id, "state": state})
    else:
        click.echo("asked the workers to cancel it" if state == "cancelling" else f"it had ended already: {state}")


@click.command("list")
@app_option
@json_option
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Runs shown.")
@click.option("--before", metavar="ID", help="Show those that are older than this one.")
@click.pass_context
def list_runs(ctx: click.Context, limit: int, before: str | None, *, as_json: bool) -> None:
    """List the newest runs. Single calls are not listed: they keep no record but their result."""
    from motet.cli.runs import listed

    rows = visit(ctx, "listing runs", lambda app: listed(app, before, limit))
    if as_json:
        print_json(rows)
        return
    columns = ["run", "name", "calls", "state", "created"]
    cells = [
        (each["id"], each["name"], each["calls"], each["state"], moment(each["created"]) if each["created"] else None)
        for each in rows
    ]
    print_table(columns, cells, "no runs are known here")
