"""From reports to the table of guarantees: `python -m motet.conformance.guarantees REPORT... > guarantees.md`.

A clause's words are those of its port's docstring; what became of it is what the reports say. With `--page FILE` the
tables are written into a page, between two markers; with `--check` as well, the page is only compared.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from motet import ports
from motet.conformance.mishaps import MishapContract
from motet.conformance.workflows import WorkflowContract

__all__ = ["Clause", "clauses", "placed", "table"]

SOURCES: tuple[type[Any], ...] = (
    ports.Backend,
    ports.Transport,
    ports.Store,
    ports.Timers,
    ports.Schedules,
    ports.DeadLetters,
    ports.Locks,
    ports.Signals,
    ports.Settler,
    ports.Workers,
    ports.Events,
    WorkflowContract,
    MishapContract,
)
BEGIN, END = "<!-- clauses -->", "<!-- end of clauses -->"
MARKS = {"proven": "proven", "undeclared": "-", "unproven": "unproven", "gap": "**gap**", "failed": "**failed**"}
CLAUSE = re.compile(r"^    ([A-Z]\d+)\. (.*(?:\n     +\S.*)*)", re.MULTILINE)


@attrs.frozen
class Clause:
    """One promise: its number and its words."""

    id: str
    text: str


def clauses(source: type[Any]) -> Iterator[Clause]:
    """Read the clauses of a port, or of the workflow contract, from its docstring."""
    for number, text in CLAUSE.findall(source.__doc__ or ""):
        yield Clause(number, " ".join(text.split()))


def table(reports: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Write the tables of all ports, a column for each backend, and the reasons of what is not proven."""
    names = sorted(reports)
    parts: list[str] = []
    reasons: list[str] = []
    for source in SOURCES:
        title = source.__name__.removesuffix("Contract")
        parts += [f"### {title}", "", f"| clause | {' | '.join(names)} |", f"|---{'|---' * len(names)}|"]
        for clause in clauses(source):
            found = [reports[name].get(clause.id, {"state": "unproven", "reason": "not run"}) for name in names]
            states = " | ".join(MARKS[entry["state"]] for entry in found)
            parts.append(f"| **{clause.id}** {clause.text.replace('|', '&#124;')} | {states} |")
            reasons += [
                f"* {clause.id} on {name}, {entry['state']}: {entry['reason']}"
                for name, entry in zip(names, found, strict=True)
                if entry["state"] != "proven"
            ]
        parts.append("")
    if reasons:
        parts += ["### Not proven", "", *reasons, ""]
    return "\n".join(parts)


def placed(page: str, tables: str) -> str:
    """Put tables between the markers of a page."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables of these reports, or write or compare a page."""
    parser = argparse.ArgumentParser(prog="python -m motet.conformance.guarantees", description="Tables of guarantees.")
    parser.add_argument("reports", nargs="+", type=Path, help="what `--conformance-report` wrote")
    parser.add_argument("--page", type=Path, help=f"write them between {BEGIN} and {END} of this file")
    parser.add_argument("--check", action="store_true", help="say whether the page is what would be written")
    given = parser.parse_args(arguments)
    joined: dict[str, Any] = {}
    for path in given.reports:
        joined.update(json.loads(path.read_text(encoding="utf-8")))
    tables = table(joined)
    if given.page is None:
        sys.stdout.write(tables)
        return 0
    page = given.page.read_text(encoding="utf-8")
    if not given.check:
        given.page.write_text(placed(page, tables), encoding="utf-8")
    elif page != placed(page, tables):
        sys.stderr.write(f"{given.page} does not say what the reports say: write it again\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
