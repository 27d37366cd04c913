"""What can be seen of a run from outside, as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from motet.canvas.plan import Chain, Group, Leaf, Node
from motet.canvas.records import RunInfo
from motet.cli.output import error_data
from motet.errors import ResultError, StateLost
from motet.handle import NAMES, ROOT
from motet.message import Place

if TYPE_CHECKING:
    from motet.app import Motet
    from motet.handle import Handle

__all__ = ["ended", "listed", "seen"]


async def seen(app: Motet, run: str, *, limit: int, depth: int) -> dict[str, Any]:
    """Describe a run and what is in it, `limit` children of each node and `depth` levels.

    Raises:
        UnknownRun: The backend does not know it.
    """
    handle = app.handle(run)
    status = await handle.status()
    progress = await handle.progress()
    info = await app.client.info(run)
    data: dict[str, Any] = {"id": run, "state": status.state}
    if info is not None:
        data |= {"name": info.name, "created": info.created or None}
    data |= {"progress": {"done": progress.done, "total": progress.total}}
    if status.ready:
        data |= await ended(handle)
    children = await below(app, run, ROOT, limit, depth) if depth else {}
    return _final(data | children) if status.ready else data | children


def _final(data: dict[str, Any]) -> dict[str, Any]:
    """What waits in a run that has ended will never run."""
    if data["state"] == "waiting":
        data["state"] = "not run"
    for each in data.get("children", ()):
        _final(each)
    return data


async def ended(handle: Handle[Any]) -> dict[str, Any]:
    """The value of a run that has ended, or why there is none."""
    error = await handle.error()
    if error is not None:
        return {"error": error_data(error)}
    try:
        return {"result": await handle.result(timeout=0)}
    except ResultError as gone:
        return {"note": str(gone)}


async def below(app: Motet, run: str, place: Place, limit: int, depth: int) -> dict[str, Any]:
    """The children of a node; nothing for a single call."""
    try:
        places = await app.client.children(run, place)
    except StateLost:
        return {}
    if not places:
        return {}
    children = [await child(app, run, each, limit, depth - 1) for each in places[:limit]]
    return {"children": children, "more": len(places) - len(children)}


async def child(app: Motet, run: str, place: Place, limit: int, depth: int) -> dict[str, Any]:
    client = app.client
    node = await client.node(run, place)
    record = await client.decided(run, place)
    what = await client.ask(run, lambda plan: plan.profile(place, node).task if isinstance(node, Leaf) else kind(node))
    data: dict[str, Any] = {"node": str(place), "name": what, "state": NAMES[record.state] if record else "waiting"}
    if record is not None and record.error is not None:
        data["error"] = error_data(record.error)
    return data | (await below(app, run, place, limit, depth) if depth else {})


def kind(node: Node) -> str:
    if isinstance(node, Group):
        return f"group of {node.members}"
    return f"chain of {node.count}" if isinstance(node, Chain) else type(node).__name__.lower()


async def listed(app: Motet, before: str | None, limit: int) -> list[dict[str, Any]]:
    """The newest runs. A single call without an id of its own keeps no record to be listed by."""
    rows: list[dict[str, Any]] = []
    for run, raw in await app.backend.store.runs(before, limit):
        info = msgspec.msgpack.decode(raw, type=RunInfo)
        record = await app.client.decided(run, ROOT)
        state = NAMES[record.state] if record else "running"
        rows.append({"id": run, "name": info.name, "calls": info.leaves, "state": state, "created": info.created})
    return rows
