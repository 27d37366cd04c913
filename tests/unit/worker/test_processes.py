"""executor="process": functions that can be killed, and may die, without their worker."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from motet import TaskCancelled, TaskFailed, signature
from motet.retry import NoRetry

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform == "win32", reason="signals and /proc"),
]

MODULE = """
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from motet import Context, Fail, FixedDelay, Motet, Retry, injected

app = Motet("memory://", lease=5)


@app.task(executor="process")
def pid(x: int = 0) -> list[int]:
    return [os.getpid(), x]


@app.task(executor="process")
def total(numbers: list[int], start: int = 0) -> int:
    return sum(numbers) + start


@app.task(executor="process", timeout=0.5)
def slow() -> None:
    time.sleep(60)


@app.task(executor="process")
def begin(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


@app.task(executor="process", retry_policy=FixedDelay(0.01, max_retries=2))
def die(path: str, how: str) -> int:
    with open(path, "a") as file:
        file.write(".")
    if os.path.getsize(path) > 2:
        return 1
    match how:
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "fault":
            ctypes.string_at(0)


@app.task(executor="process", retry_policy=FixedDelay(0.01, max_retries=2, on=(LookupError,)))
def fails(how: str, ctx: Context = injected) -> int:
    if how == "key" and ctx.attempt < 3:
        raise KeyError("gone")
    if how == "value":
        raise ValueError("wrong")
    if how == "retry" and ctx.attempt < 2:
        raise Retry("later", delay=0)
    if how == "fail":
        raise Fail("for good")
    if how == "exit":
        sys.exit(4)
    return ctx.attempt


@app.task(executor="process")
def moves(ctx: Context = injected) -> list[int]:
    ctx.progress(1, 2)
    ctx.spawn(pid.s(9))
    return ctx.replace(pid.s(7))


@app.task(executor="process")
def odd() -> object:
    return object()
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of tasks that a process can import by its name."""
    name = f"tasks_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield import_module(name)
    del sys.modules[name]


async def failure(run: Any) -> Any:
    with pytest.raises(TaskFailed) as caught:
        await run.result(20)
    return caught.value.error


def lives(pid: int) -> bool:
    """Whether a process is there, and not only a body that nobody has collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_calls_run_in_a_warm_process_of_their_own(tasks: Any) -> None:
    async with tasks.app, tasks.app.worker(processes=1):
        first, x = await (await tasks.pid.delay(1)).result(20)
        second, y = await (await tasks.pid.delay(2)).result(20)

        assert (x, y) == (1, 2)
        assert first == second != os.getpid()
        fed = await (tasks.pid.s(3) | tasks.total.s(4)).submit()
        assert await fed.result(20) == first + 3 + 4
    assert not lives(first)


async def test_no_more_processes_run_than_allowed(tasks: Any) -> None:
    async with tasks.app, tasks.app.worker(processes=2):
        runs = await tasks.app.submit_many(tasks.pid.s(number) for number in range(20))
        seen = {(await run.result(20))[0] for run in runs}

    assert 1 <= len(seen) <= 2


async def test_a_timeout_kills_the_process_and_the_next_call_gets_a_new_one(tasks: Any) -> None:
    async with tasks.app, tasks.app.worker(processes=1):
        before, _ = await (await tasks.pid.delay()).result(20)
        assert (await failure(await tasks.slow.delay())).kind == "timeout"
        after, _ = await (await tasks.pid.delay()).result(20)

        assert before != after
        assert not lives(before)


async def test_a_cancel_kills_the_process(tasks: Any, tmp_path: Path, until: Callable[..., Any]) -> None:
    said = tmp_path / "pid"
    async with tasks.app, tasks.app.worker() as worker:
        run = await tasks.begin.delay(str(said))
        await until(lambda: said.exists() and said.read_text())
        await run.cancel()
        with pytest.raises(TaskCancelled):
            await run.result(5)
        await until(lambda: not lives(int(said.read_text())))
        await until(lambda: not worker.active)


async def test_a_stop_kills_what_outlives_the_grace_and_gives_it_back(
    tasks: Any, tmp_path: Path, until: Callable[..., Any]
) -> None:
    said = tmp_path / "pid"
    async with tasks.app:
        await tasks.begin.delay(str(said))
        async with tasks.app.worker(grace=timedelta()):
            await until(lambda: said.exists() and said.read_text())

        assert not lives(int(said.read_text()))
        (info,) = await tasks.app.backend.transport.queues()
        assert (info.ready, info.held) == (1, 0)


@pytest.mark.parametrize("how", ["exit", "kill", "fault"])
async def test_c10_a_process_that_dies_is_a_failed_attempt_and_the_worker_lives(
    tasks: Any, tmp_path: Path, how: str
) -> None:
    async with tasks.app, tasks.app.worker(processes=1):
        run = await tasks.die.delay(str(tmp_path / "twice"), how)
        assert await run.result(20) == 1
        assert (await (await tasks.pid.delay(3)).result(20))[1] == 3


async def test_a_process_that_dies_too_often_fails_its_run_as_worker_lost(tasks: Any, tmp_path: Path) -> None:
    async with tasks.app, tasks.app.worker():
        run = await tasks.die.s(str(tmp_path / "never"), "exit").set(retry_policy=NoRetry()).submit()
        error = await failure(run)

    assert (error.kind, error.attempts, error.message) == ("worker_lost", 1, "its process ended with exit code 3")


@pytest.mark.parametrize(
    ("how", "kind", "attempts"),
    [("value", "ValueError", 1), ("fail", "Fail", 1), ("exit", "SystemExit", 1)],
)
async def test_failures_come_back_as_data(tasks: Any, how: str, kind: str, attempts: int) -> None:
    async with tasks.app, tasks.app.worker():
        error = await failure(await tasks.fails.delay(how))

    assert (error.kind, error.type, error.attempts) == ("exception", kind, attempts)
    assert error.arguments == {"how": how}


@pytest.mark.parametrize(("how", "attempts"), [("key", 3), ("retry", 1)])
async def test_policies_choose_by_the_type_that_was_raised_over_there(tasks: Any, how: str, attempts: int) -> None:
    async with tasks.app, tasks.app.worker():
        run = await tasks.fails.delay(how)
        if how == "key":
            assert await run.result(20) == attempts
        else:
            # The policy is for lookups only, and `Retry` is none.
            assert (await failure(run)).attempts == attempts


async def test_what_a_task_asks_of_its_context_works_from_a_process(tasks: Any) -> None:
    async with tasks.app, tasks.app.worker():
        run = await tasks.moves.delay()
        assert (await run.result(20))[1] == 7


async def test_a_result_that_cannot_travel_fails_the_task(tasks: Any) -> None:
    async with tasks.app, tasks.app.worker():
        assert (await failure(await tasks.odd.delay())).kind == "not_serializable"


async def test_a_task_that_its_module_does_not_define_is_unknown_over_there(tasks: Any) -> None:
    def inner() -> None: ...

    inner.__module__ = tasks.__name__  # defined there, but not when it is imported
    tasks.app.task(executor="process", name="here:inner")(inner)
    async with tasks.app, tasks.app.worker():
        error = await failure(await signature({"task": "here:inner"}).submit())

    assert error.kind == "unknown_task"


SCRIPT = """
import sys
import anyio
from motet import Motet

app = Motet("memory://")
print("imported", __name__, flush=True)


@app.task(executor="process")
def square(x: int) -> int:
    return x * x


async def main() -> None:
    async with app, app.worker():
        print(await (await square.delay(7)).result(20))
        if sys.argv[1:]:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    anyio.run(main)
"""


def test_a_script_runs_once_and_its_processes_import_it_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)

    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=40, check=False
    )

    assert sorted(done.stdout.split("\n")) == ["", "49", "imported __main__", "imported script"], done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for the processes in /proc")
def test_processes_end_when_their_worker_is_killed(tmp_path: Path) -> None:
    marker = f"motet-{tmp_path.name}-{os.getpid()}"
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "MOTET_TEST_MARKER": marker}

    subprocess.run(
        [sys.executable, "script.py", "die"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=40,
        check=False,
    )

    deadline = time.monotonic() + 5
    while marked(marker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert marked(marker) == []


def marked(marker: str) -> list[str]:
    """The processes that have a word in their environment."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and marker.encode() in (entry / "environ").read_bytes():
                found.append(entry.name)
    return found
