"""Call a function of a peer's program, and print what that took: `python -m peers.call huey_peer enqueue 1000`."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

from measuring import Watch
from peers.shape import loop_factory, median_lap


def main() -> None:
    name, command, *numbers = sys.argv[1:]
    program = importlib.import_module(f"peers.{name}")
    function = getattr(program, command, None)
    if function is None:
        print(json.dumps({"missing": True}))
        return
    arguments = [int(number) for number in numbers]
    if inspect.iscoroutinefunction(function):
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            took = runner.run(waited(function, arguments, program.opened))
    else:
        watch = Watch()
        function(*arguments)
        took = watch.read()
    print(json.dumps({**took, **median_lap()}))


async def waited(function: Callable[..., Any], arguments: list[int], opened: Callable[[], Any]) -> dict[str, float]:
    """Call it with the client open; opening and closing are not measured."""
    async with opened():
        watch = Watch()
        await function(*arguments)
        return watch.read()


if __name__ == "__main__":
    main()
