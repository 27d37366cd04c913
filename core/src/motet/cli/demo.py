"""`motet demo`: a real job on real worker processes, one of which is killed; and the answer is right."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from motet.cli import exits
from motet.cli.output import console, print_json, print_table
from motet.cli.root import json_option

if TYPE_CHECKING:
    from motet.cli.demo_job import Job

__all__ = ["demo"]


@click.command
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-w", "--workers", type=click.IntRange(1, 64), default=3, show_default=True, help="Worker processes.")
@click.option("--kill/--no-kill", default=True, help="Kill one worker with SIGKILL halfway.  [default: kill]")
@click.option(
    "--db", type=click.Path(dir_okay=False, path_type=Path), help="SQLite file to keep, instead of a new one."
)
@json_option
@click.pass_context
def demo(ctx: click.Context, folder: Path | None, workers: int, db: Path | None, *, kill: bool, as_json: bool) -> None:
    """Count the words of the files in FOLDER (the standard library) on several worker processes.

    The job is `group(count of each file) | merge | top`, on a SQLite file. Halfway one worker is killed with SIGKILL.
    The result is compared with that of a plain loop; the exit code is 1 if they differ.
    """
    from motet.cli import demo_job

    signal.signal(signal.SIGTERM, interrupted)  # so that nothing is left behind
    paths = demo_job.files_in(folder) if folder else demo_job.standard_library()
    with tempfile.TemporaryDirectory(prefix="motet-demo-") as temporary:
        job = demo_job.Job(Path(temporary), paths, workers, kill)
        database = (db or Path(temporary, "demo.db")).absolute()
        if not as_json:
            announce(job, folder)
        words = perform(job, database, quiet=as_json)
        start = time.perf_counter()
        expected = demo_job.plain_count(paths)
        plain_seconds = time.perf_counter() - start
        same = [tuple(each) for each in words] == expected
        if as_json:
            print_json(facts(job, words, same=same))
        else:
            click.echo()
            print_table(["word", "count"], words, "no words at all")
            explain(job, plain_seconds, same=same)
    ctx.exit(exits.OK if same else exits.FAILED)


def interrupted(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def perform(job: Job, database: Path, *, quiet: bool) -> Any:
    """Run the job, drawing its progress."""
    from motet.cli import demo_job

    os.environ["MOTET_URL"] = f"sqlite:///{database}"  # before the app is made
    from motet.cli.demo_app import app

    with demo_job.workers(job, database) as process, progress(job, quiet=quiet) as show:
        words = anyio.run(demo_job.run_job, app, job, process, show)
    job.conclude()
    return words


def announce(job: Job, folder: Path | None) -> None:
    where = folder or "the standard library"
    out = console()
    out.print(
        f"[bold]group[/bold](count of {len(job.paths)} files) [bold]|[/bold] merge [bold]|[/bold] top   "
        f"[dim]{where}, {job.workers} worker processes, SQLite[/dim]"
    )


@contextmanager
def progress(job: Job, *, quiet: bool) -> Generator[Callable[[Job], None]]:
    """Draw bars on a terminal; elsewhere write a line at each quarter."""
    out = console()
    if quiet:
        yield lambda _: None
        return
    if not out.is_terminal:
        yield Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(40),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=out, refresh_per_second=20) as bars:
        main = bars.add_task("calls", total=job.calls, note="")
        by_pid: dict[int, Any] = {}

        def show(job: Job) -> None:
            bars.update(main, completed=job.done, note=f"[dim]{job.seconds:.1f} s[/dim]")
            for pid, count in job.evidence.executions.items():
                if pid not in by_pid:
                    by_pid[pid] = bars.add_task(f"worker {pid}", total=job.calls, note="")
                bars.update(by_pid[pid], completed=count, note=fate(job, list(by_pid).index(pid), pid))

        yield show


def fate(job: Job, number: int, pid: int) -> str:
    if pid == job.evidence.killed:
        return "[red]killed with SIGKILL[/red]"
    return "[dim]took its place[/dim]" if number >= job.workers else ""


class Lines:
    """Progress for a file or a pipe."""

    def __init__(self) -> None:
        self.next: float = 0.0
        self.told: bool = False

    def __call__(self, job: Job) -> None:
        """Write a line when a quarter more is done, and when a worker was killed."""
        if job.done >= self.next * job.calls:
            click.echo(f"{job.seconds:5.1f} s  {job.done} of {job.calls} calls done")
            self.next = min(job.done / job.calls + 0.25, 1.0) if job.done < job.calls else 2.0
        if job.evidence.killed and not self.told:
            self.told = True
            click.echo(f"{job.seconds:5.1f} s  killed worker {job.evidence.killed} with SIGKILL")


def facts(job: Job, words: Any, *, same: bool) -> dict[str, Any]:
    """What is known of the job, as data."""
    seen = job.evidence
    return {
        "files": len(job.paths),
        "workers": job.workers,
        "calls": job.calls,
        "killed": seen.killed or None,
        "redelivered": len(seen.redelivered),
        "executions": seen.total,
        "nodes": len(seen.nodes),
        "seconds": round(job.seconds, 3),
        "same": same,
        "words": words,
    }


def explain(job: Job, plain_seconds: float, *, same: bool) -> None:
    """Say what happened, and what it proves."""
    seen = job.evidence
    again = seen.total - len(seen.nodes)
    lines: list[tuple[str, str]] = []
    if seen.killed:
        lines.append(
            ("killed", f"worker {seen.killed} with SIGKILL, after {seen.killed_at} of {job.calls} calls had begun")
        )
        lines.append(("redelivered", f"{plural(len(seen.redelivered), 'message')} that it held, after a lease of 1 s"))
    elif job.kill:
        lines.append(("killed", "nobody: the job was over before"))
    took = f"{len(seen.nodes)} calls took effect once each"
    lines.append(
        ("executions", f"{seen.total}: {again} of them a second time; {took}" if again else f"{seen.total}: {took}")
    )
    lines.append(("time", f"{job.seconds:.1f} s on {job.workers} worker processes; a plain loop {plain_seconds:.1f} s"))
    out = console()
    out.print()
    for name, text in lines:
        out.print(f"[bold]{name:<12}[/bold]{text}", soft_wrap=True)
    if same:
        out.print(f"[bold]{'proven':<12}[/bold][green]the result equals that of a plain loop in one process[/green]")
    else:
        out.print(f"[bold]{'WRONG':<12}[/bold][red]a plain loop in one process gives another result[/red]")


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
