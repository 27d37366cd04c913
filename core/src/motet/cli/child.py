"""One worker process, as the supervisor starts it: `python -m motet.cli.child module:app '{"link": 5}'`.

Its imports decide how fast a worker starts and how much memory it takes: no click and no rich here.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from motet.cli import exits, logs
from motet.errors import MotetError

if TYPE_CHECKING:
    from motet.app import Motet

__all__ = ["main", "run"]

log: logging.Logger = logging.getLogger("motet.worker")


def main() -> None:
    """Be a worker until told to stop, or until the supervisor is dead."""
    target, settings = sys.argv[1], json.loads(sys.argv[2])
    link = settings.pop("link")
    os.set_inheritable(link, False)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is held yet: no traceback, just the end
    threading.Thread(target=end_with_parent, args=(link,), name="motet-parent", daemon=True).start()
    sys.exit(run(target, settings, lambda: os.write(link, b"r")))


def end_with_parent(link: int) -> None:
    """Wait for the end of the socket. What this process holds comes back after its lease."""
    while os.read(link, 64):
        pass
    os._exit(exits.FAILED)


def run(target: str, settings: dict[str, Any], ready: Callable[[], object]) -> int:
    """Import the app, open it and work; return the exit code."""
    logs.configure(settings.pop("log_level", "info"), settings.pop("log_format", "text"))
    from motet.cli.target import load_app

    try:
        app = load_app(target)
        app.import_tasks()
    except MotetError as error:
        log.error("%s", error, exc_info=error.__cause__)  # noqa: TRY400 - the cause says where, our own frames do not
        return exits.USAGE
    import anyio

    options = {"use_uvloop": True} if has_uvloop() else {}
    try:
        anyio.run(serve, app, settings, ready, backend_options=options)
    except MotetError as error:
        log.error("%s", error)  # noqa: TRY400 - raised on purpose, and says what to do
        return exits.code_of(error)
    except Exception:
        log.exception("the worker crashed")
        return exits.FAILED
    return exits.OK


async def serve(app: Motet, settings: dict[str, Any], ready: Callable[[], object]) -> None:
    """Work until a signal or, with `burst`, until nothing is left.

    Raises:
        NotSupported: The app's backend lives in one process, so that no other could give this one work (M14).
    """
    from motet.backends import masked

    async with app:
        app.client.shared("a worker process")
        worker = app.make_worker(**read(settings))
        with stopping(worker.stop):
            if not app.registry.definitions:
                log.warning("this app has no tasks: name the modules that define them, Motet(url, include=[...])")
            options = worker.options
            log.info(
                "started pid=%d queues=%s concurrency=%d backend=%s",
                os.getpid(),
                ",".join(options.queues),
                options.concurrency,
                masked(app.url),
            )
            ready()
            gc.freeze()  # what was imported stays: to look at it again and again takes a seventh of a drain
            await worker.serve()
    log.info("stopped pid=%d", os.getpid())


def read(settings: dict[str, Any]) -> dict[str, Any]:
    """Turn settings from the command line into a worker's options."""
    from motet.options import Size

    options = dict(settings)
    if "queues" in options:
        options["queues"] = tuple(options["queues"])
    if "sizes" in options:
        options["sizes"] = tuple(Size(size) for size in options["sizes"])
    if "grace" in options:
        options["grace"] = timedelta(seconds=options["grace"])
    return options


@contextmanager
def stopping(stop: Callable[[], None]) -> Generator[None]:
    """Call `stop` at the first signal, and end at once at the second, even when the loop is stuck in a task."""
    import asyncio

    loop = asyncio.get_running_loop()
    seen: list[int] = []

    def heard(number: int, _: object) -> None:
        seen.append(number)
        if len(seen) > 1:
            os._exit(128 + number)
        loop.call_soon_threadsafe(stop)

    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def has_uvloop() -> bool:
    """Say whether uvloop is installed, without importing it."""
    from importlib.util import find_spec

    return find_spec("uvloop") is not None


if __name__ == "__main__":
    main()
