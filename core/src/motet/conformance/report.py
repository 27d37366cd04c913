"""A pytest plugin that writes what became of each clause.

`pytest -p motet.conformance.report --conformance-report=FILE` switches it on. The file is JSON: for each contract
class its backend's name, and for each clause `proven`, `undeclared`, `unproven`, `gap` or `failed`, with the reason.
Several runs, also those of other people, are joined by `motet.conformance.guarantees`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Report", "pytest_addoption", "pytest_configure"]

SUBJECT = "motet-clauses"
STATES = ("proven", "undeclared", "unproven", "gap", "failed")
"""From the best to the worst that the tests of a clause may say of it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the option."""
    parser.addoption("--conformance-report", metavar="FILE", help="write what became of each clause to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Begin a report if one is asked for."""
    path = config.getoption("--conformance-report")
    if path:
        config.pluginmanager.register(Report(Path(path)), "motet-conformance-report")


class Report:
    """Collects outcomes; a clause is as good as the worst of its tests."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, dict[str, Any]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note in each test which clauses it is about: pytest-xdist carries that to where reports are gathered."""
        for item in items:
            clauses = getattr(getattr(item, "function", None), "__clauses__", ())
            cls = getattr(item, "cls", None)
            if clauses and cls is not None:
                item.user_properties.append((SUBJECT, [cls.__name__.removeprefix("Test"), *clauses]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test ended."""
        subject: Any = dict(report.user_properties).get(SUBJECT)
        if subject is None or (report.when != "call" and report.passed):
            return
        name, *clauses = subject
        for clause in clauses:
            self.note(self.found.setdefault(name, {}).setdefault(clause, {"state": "proven", "tests": 0}), report)

    def note(self, entry: dict[str, Any], report: pytest.TestReport) -> None:
        """Let a clause sink to what one of its tests says."""
        entry["tests"] += 1
        state, reason = _state(report)
        if STATES.index(state) > STATES.index(entry["state"]):
            entry["state"], entry["reason"] = state, reason

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the report, but for a process of pytest-xdist, which has seen a part of it."""
        if hasattr(session.config, "workerinput"):
            return
        self.path.write_text(json.dumps(self.found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _state(report: pytest.TestReport) -> tuple[str, str]:
    if report.passed:
        return "proven", ""
    if report.skipped and hasattr(report, "wasxfail"):
        return "gap", str(report.wasxfail).removeprefix("reason: ")
    if report.skipped:
        _, _, skipped = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
        state, _, reason = str(skipped).removeprefix("Skipped: ").partition(": ")
        return (state, reason) if state in STATES else ("unproven", str(skipped))
    return "failed", report.nodeid.rpartition("::")[2]
