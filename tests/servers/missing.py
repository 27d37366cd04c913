"""Brokers that this machine has not: their tests are skipped, those of the others run, and the run fails in the end.

A pytest plugin, which the conftest of whoever needs a broker registers: `missing.watch(config)`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

__all__ = ["chosen", "others", "skip", "watch"]

ROOT = Path(__file__).parents[2]
_missing: dict[str, str] = {}


def watch(config: pytest.Config) -> None:
    """Have the run fail in the end when a broker was missing."""
    plugin = sys.modules[__name__]
    if not config.pluginmanager.is_registered(plugin):
        config.pluginmanager.register(plugin, "motet-missing-brokers")


def skip(broker: str, remedies: object) -> NoReturn:
    """Skip a test, and remember what its broker could be had by."""
    _missing[broker] = str(remedies)
    pytest.skip(f"unproven: there is no {broker}")


def chosen(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Name the backends that are to be tested: all, unless nox was given `--backends=`."""
    named = environment.get("MOTET_TEST_BACKENDS")
    known = sorted(path.parent.name for path in ROOT.glob("backends/*/pyproject.toml"))
    return known if named is None else [name for name in named.split(",") if name]


def others(absent: Mapping[str, str]) -> str:
    """Write the line that tests what is there."""
    left = [name for name in chosen() if name not in absent] or ["memory"]
    return f"python3 noxfile.py -s tests -- --backends={','.join(left)}"


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Hear what a process of pytest-xdist has missed."""
    _missing.update(getattr(node, "workeroutput", {}).get("missing", {}))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Have the run fail."""
    output: Any = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["missing"] = _missing
    elif _missing and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the remedies, and the way to do without."""
    for broker, remedies in _missing.items():
        terminalreporter.section(f"FAILED: {broker} was not tested", red=True)
        terminalreporter.line(remedies)
    if _missing:
        terminalreporter.line(f"Or test the others only: {others(_missing)}")
