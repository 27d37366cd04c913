"""SIGKILL at every named failpoint, so many times each, in a fleet of four workers on SQLite: what is lost or doubled?

`nox -s faults` runs it: `-- --kills 2` is the quick form, `-- --only after_run` one place. The fleet and its file stay
from place to place; the runs of a place are waited for, and judged by `checker.py`, before the next one.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import anyio
from checker import Violation, doubled, lost
from fleet import Fleet
from mixture import app
from ordered import declare
from phase import Phase, Report
from points import POINTS, Point
from report import HEAD, as_page, as_row

ROOT = Path(__file__).parents[2]
FULL = 20


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=FULL, help="how often per place")
    parser.add_argument("--only", action="append", default=[], metavar="PLACE", help="these places only")
    parser.add_argument("--keep", action="store_true", help="leave the folder with histories and logs where it is")
    return parser.parse_args()


async def play(points: list[Point], kills: int, folder: Path) -> list[Report]:
    """Go through places that need one kind of settler."""
    scheme = "sqlite-ordered" if points[0].ordered else "sqlite"
    url = app.url = f"{scheme}:///{folder}/motet.db"
    reports: list[Report] = []
    with Fleet(folder, url, str(folder.parent)) as fleet:
        async with app:
            for number, point in enumerate(points):
                report = await Phase(fleet, point, f"p{number}").play(max(1, kills // 4) if point.stop else kills)
                reports.append(report)
                print("  ".join(as_row(report)), flush=True)
                for violation in report.violations[:40]:
                    print("   ", *violation, flush=True)
    return reports


def main() -> None:
    chosen = arguments()
    known = {point.name for point in POINTS}
    if strangers := set(chosen.only) - known:
        sys.exit(f"no such place: {', '.join(sorted(strangers))}; there are {', '.join(sorted(known))}")
    points = [point for point in POINTS if not chosen.only or point.name in chosen.only]
    folder = Path(tempfile.mkdtemp(prefix="motet-faults-"))
    declare(folder)
    sys.path.insert(0, str(folder))
    began = time.monotonic()
    reports: list[Report] = []
    print("  ".join(HEAD), flush=True)
    try:
        for ordered in (False, True):
            if some := [point for point in points if point.ordered is ordered]:
                stage = folder / ("ordered" if ordered else "fused")
                stage.mkdir()
                reports += anyio.run(play, some, chosen.kills, stage)
    finally:
        if chosen.keep:
            print(folder)
        else:
            shutil.rmtree(folder)
    violations: list[Violation] = [each for report in reports for each in report.violations]
    seconds = time.monotonic() - began
    total = sum(report.kills for report in reports)
    found = f"{lost(violations)} lost, {doubled(violations)} doubled, {len(violations)} violations"
    print(f"{len(reports)} places, {total} faults, {found}, {seconds:.0f} s")
    if chosen.kills >= FULL and not chosen.only:
        (ROOT / "docs/faults.md").write_text(as_page(reports, seconds), encoding="utf-8")
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()
