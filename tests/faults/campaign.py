"""SIGKILL at every named failpoint, so many times each, in a fleet of four workers: what is lost or doubled?

`nox -s faults` runs it: `-- --kills 2` is the quick form, `-- --only after_run` one place, `-- --on redis` those of one
backend. The fleet and its broker stay from place to place; the runs of a place are waited for, and judged by
`checker.py`, before the next one. In the end the same is done with settlers that are broken on purpose, in which it
must find what is wrong.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
from broken import MUTANTS
from checker import Violation, doubled, lost
from fleet import Fleet
from mixture import app
from ordered import declare
from phase import PATIENCE, Phase, Report
from points import POINTS, Point

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests/servers"))

from nats_server import NatsServer, find
from rabbitmq_server import RabbitServer
from rabbitmq_server import find as rabbitmq
from redis_server import RedisServer, program
from report import HEAD, as_page, as_row

FULL = 20
MUTANT_KILLS = 6
HEARTBEAT = 2
"""Seconds: RabbitMQ gives up on who is silent for twice as long."""
LOST = 3.0
"""Seconds after which a run of a broken settler is taken for lost."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=FULL, help="how often per place")
    parser.add_argument("--only", action="append", default=[], metavar="PLACE", help="these places only")
    known = list(dict.fromkeys(point.on for point in POINTS))
    parser.add_argument("--on", choices=known, help="the places on this backend only")
    parser.add_argument("--keep", action="store_true", help="leave the folder with histories and logs where it is")
    return parser.parse_args()


async def play(points: Sequence[Point], kills: int, folder: Path, mutant: str = "") -> list[Report]:
    """Go through places on one backend."""
    folder.mkdir()
    reports: list[Report] = []
    with broker(points[0], folder) as url, Fleet(folder, url, str(folder.parent), mutant) as fleet:
        app.url = url
        async with app:
            for number, point in enumerate(points):
                phase = Phase(fleet, point, f"p{number}", LOST if mutant else PATIENCE)
                report = await phase.play(max(1, kills // 4) if point.stop else kills)
                reports.append(report)
                print("  ".join(as_row(report)), flush=True)
                for violation in report.violations[: 1 if mutant else 40]:
                    print("   ", *violation, flush=True)
    return reports


@contextmanager
def broker(point: Point, folder: Path) -> Generator[str]:
    """Have the broker of a place, and yield its URL."""
    there = folder / "server"
    there.mkdir()
    if point.on == "rabbitmq":
        with RabbitServer(rabbitmq(), there) as server:
            yield f"{server.url}?heartbeat={HEARTBEAT}"
    elif point.on in ("redis", "nats"):
        with RedisServer(program(), there) if point.on == "redis" else NatsServer(find(), there) as server:
            yield server.url
    else:
        yield f"{'sqlite-ordered' if point.on == 'ordered' else 'sqlite'}:///{folder}/motet.db"


def campaign(points: Sequence[Point], kills: int, folder: Path) -> list[Report]:
    """Go through all places, one backend after the other."""
    reports: list[Report] = []
    for on in dict.fromkeys(point.on for point in points):
        there = [point for point in points if point.on == on]
        reports += anyio.run(play, there, kills, folder / on)
    return reports


def missed(folder: Path) -> list[str]:
    """Name the broken settlers with which nothing was found wrong."""
    unseen: list[str] = []
    for name, (_, place, kind) in MUTANTS.items():
        print(f"with a settler that is broken, {name}:", flush=True)
        point = Point(place, on="ordered", kinds=(kind,))
        (report,) = anyio.run(play, [point], MUTANT_KILLS, folder / name.replace(" ", "-"), name)
        if not any(violation.invariant == "I1" for violation in report.violations):
            unseen.append(name)
    return unseen


def interrupt(number: int, frame: object) -> None:
    """End, and leave no process of the fleet behind."""
    raise KeyboardInterrupt


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)  # also where a shell lets what it starts in the background ignore Ctrl-C
    chosen = arguments()
    known = {point.name for point in POINTS}
    if strangers := set(chosen.only) - known:
        sys.exit(f"no such place: {', '.join(sorted(strangers))}; there are {', '.join(sorted(known))}")
    points = [point for point in POINTS if not chosen.only or point.name in chosen.only]
    points = [point for point in points if chosen.on in (None, point.on)]
    part = bool(chosen.only or chosen.on)
    folder = Path(tempfile.mkdtemp(prefix="motet-faults-"))
    declare(folder)
    sys.path.insert(0, str(folder))
    began = time.monotonic()
    print("  ".join(HEAD), flush=True)
    try:
        reports = campaign(points, chosen.kills, folder)
        unseen = [] if part else missed(folder)
    finally:
        if chosen.keep:
            print(folder)
        else:
            shutil.rmtree(folder)
    conclude(reports, unseen, time.monotonic() - began, write=chosen.kills >= FULL and not part)


def conclude(reports: list[Report], unseen: list[str], seconds: float, *, write: bool) -> None:
    """Say what came out, write it down if it is a full campaign, and end with the exit code that it deserves."""
    violations: list[Violation] = [each for report in reports for each in report.violations]
    total = sum(report.kills for report in reports)
    found = f"{lost(violations)} lost, {doubled(violations)} doubled, {len(violations)} violations"
    print(f"{len(reports)} places, {total} faults, {found}, {seconds:.0f} s")
    for report in reports:  # once more, where nobody has to look for them
        for violation in report.violations:
            print(f"{report.point.name} on {report.point.on}:", *violation)
    for name in unseen:
        print(f"the judge has not noticed a settler that is broken: {name}")
    if write:
        (ROOT / "docs/faults.md").write_text(as_page(reports, seconds), encoding="utf-8")
    sys.exit(bool(violations or unseen))


if __name__ == "__main__":
    main()
