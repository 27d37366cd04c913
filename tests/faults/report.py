"""The table of a campaign."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime

from checker import doubled, lost
from mixture import LEASE
from nats_server import find as nats
from nats_server import version_of
from phase import Report
from points import MIXED
from rabbitmq_matrix import line
from redis_server import find

__all__ = ["HEAD", "as_page", "as_row"]

HEAD = (
    *("place", "in", "on", "work", "fault", "times", "runs"),
    *("lost", "doubled", "wrong", "executions", "nodes", "seconds"),
)
ON = {"sqlite": "SQLite", "ordered": "SQLite, op by op", "redis": "Redis", "nats": "NATS", "rabbitmq": "RabbitMQ"}
WHO = {"worker": "worker", "submit": "client, submit", "cancel": "client, cancel"}


def as_row(report: Report) -> tuple[str, ...]:
    """Write one place."""
    point, found = report.point, report.violations
    return (
        point.name,
        WHO[point.who],
        ON[point.on],
        "mixed" if point.kinds == MIXED else ", ".join(point.kinds),
        "SIGSTOP" if point.stop else "SIGKILL",
        str(report.kills),
        str(report.runs),
        str(lost(found)),
        str(doubled(found)),
        str(sum(each.invariant not in ("I1", "I5") for each in found)),
        f"{report.executions:,}",
        f"{report.nodes:,}",
        f"{report.seconds:.1f}",
    )


def as_page(reports: Sequence[Report], seconds: float) -> str:
    """Write the page of the documentation."""
    rows = [HEAD, ("---",) * len(HEAD), *map(as_row, reports)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    found = [each for report in reports for each in report.violations]
    kills = sum(report.kills for report in reports if not report.point.stop)
    stops = sum(report.kills for report in reports if report.point.stop)
    again = sum(report.executions for report in reports)
    machine = f"{os.cpu_count()} CPUs, {platform.system()} {platform.release()}"
    servers = f"SQLite {sqlite3.sqlite_version}, {find().line}, NATS {version_of(nats())}, RabbitMQ {line()}"
    others = sum(each.invariant not in ("I1", "I5") for each in found)
    return f"""# Faults

Written by `nox -s faults`: a process is killed by SIGKILL, or frozen by SIGSTOP for two leases (on RabbitMQ
for three heartbeats) and woken, at every named [failpoint](settings.md#failpoints), in a fleet of four worker processes
on one SQLite file, and on one server of Redis, NATS and RabbitMQ, while runs of many shapes go through it. Clients that
are killed make their call again, with the same id.

**{kills:,} kills and {stops:,} freezes: {lost(found)} runs lost, {doubled(found)} effects doubled, {others} other
violations**, in {sum(report.runs for report in reports):,} runs and {again:,} executions.

* machine: {machine}
* system: CPython {platform.python_version()}, {servers}
* date: {datetime.now(UTC):%Y-%m-%d}
* duration: {seconds:.0f} s

{table}

* **on**: SQLite settles a batch in one transaction, and Redis in one script. *Op by op* settles an SQLite file through
  the settler for brokers without transactions, which is that of NATS too: each crash point between two ops is a place.
* **work**: mixed is a chord with a nested group and a callback; a chain with a retry and a replacement (steps); a chain
  whose first step spawns a run (spawning); a failing group with `fail_fast`, a callback and a dead letter (failing); a
  chain whose first step draws lots; a chain that is cancelled (cancelling). Wide has 300 members, heavy 700 with 12 kB
  each, and swept 1,100, whose records are removed a second after its end.
* **lost**: accepted runs without an outcome, or with a step, callback or spawned run that never ran to its end.
  **doubled**: steps, continuations, callbacks or spawned runs that happened as more than one node. **wrong**: any
  other invariant: two outcomes for one node, a step before what it waits for, a wrong value, a start more than 1 s
  after a cancel, more executions than kills explain, anything left in the queues.
* **executions, nodes**: task code runs at least once, so that a kill repeats what its worker held, at most 8 calls.
  A retry is an execution too.
* The lease is {LEASE:g} s. No failure in N independent kills bounds the share that fails below 3/N with 95 %
  confidence. It says nothing of power cuts and disks that lie.

`tests/faults/checker.py` is the judge; `tests/unit/test_checker.py` shows it histories with one thing wrong in each.
"""
