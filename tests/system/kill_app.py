"""What the kill tests run: a chord, a chain with a retry and a callback, every execution noted in a file.

`python kill_app.py work` works until it is killed or told to stop; `python kill_app.py submit NAME` submits one run.
The file is written with O_APPEND by each process: the system under test does not record itself.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import anyio

from motet import Context, FixedDelay, Motet, Term, chain, group, injected

app = Motet(os.environ["KILL_URL"], lease=0.5)
WIDTH = int(os.environ.get("KILL_WIDTH", "6"))


def note(ctx: Context, what: str) -> None:
    line = f"{what} {ctx.idempotency_key} {ctx.attempt} {os.getpid()}\n"
    handle = os.open(os.environ["KILL_HISTORY"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(handle, line.encode())
    os.close(handle)


@app.task(name="kill:member")
async def member(n: int, ctx: Context = injected) -> int:
    note(ctx, "member")
    return n


@app.task(name="kill:thread")
def thread(n: int, ctx: Context = injected) -> int:
    note(ctx, "thread")
    return n


@app.task(name="kill:flaky", retry_policy=FixedDelay(0.01, max_retries=5))
async def flaky(n: int, ctx: Context = injected) -> int:
    note(ctx, "flaky")
    if ctx.attempt == 1:
        raise ValueError("the first attempt always fails")
    return n


@app.task(name="kill:total")
async def total(values: list[int], ctx: Context = injected) -> int:
    note(ctx, "total")
    return sum(values)


@app.task(name="kill:called")
async def called(value: int, ctx: Context = injected) -> None:
    note(ctx, "called")


@app.task(name="kill:replaced")
async def replaced(n: int, ctx: Context = injected) -> int:
    note(ctx, "replaced")
    return ctx.replace(group(member.s(n), thread.s(n)) | total.s())


def term() -> Term[Any, Any]:
    members = group(*(member.s(n) for n in range(WIDTH)), chain(flaky.s(100), replaced.s()), thread.s(1000))
    return (members | total.s()).on_success(called.s())


EXPECTED = sum(range(WIDTH)) + 200 + 1000


async def work() -> None:
    async with app:
        worker = app.make_worker(concurrency=4)
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async with anyio.create_task_group() as tasks:

                async def stop() -> None:
                    async for _ in signals:
                        worker.stop()

                tasks.start_soon(stop)
                await worker.serve()
                tasks.cancel_scope.cancel()


async def submit(name: str) -> None:
    async with app:
        await term().submit(id=name)


if __name__ == "__main__":
    anyio.run(work) if sys.argv[1] == "work" else anyio.run(submit, sys.argv[2])
