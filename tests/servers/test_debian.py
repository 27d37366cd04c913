"""Packages are installed where that is allowed, announced, and no service is started by it."""

from __future__ import annotations

import os
from pathlib import Path

import debian
import pytest

APT = """#!/bin/sh
echo "$@ policy=$([ -x "$POLICY" ] && echo there)" >> "$CALLS"
[ "$1" = update ] && touch "$CALLS.updated"
[ -e "$CALLS.updated" ]
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A machine whose apt-get writes down what it is asked, and has no lists of packages at first."""
    (tmp_path / "apt-get").write_text(APT, encoding="utf-8")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setattr(debian, "POLICY", tmp_path / "policy")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")  # no service of this machine is touched
    folder = str(tmp_path)
    return {"PATH": f"{folder}:/usr/bin:/bin", "CALLS": f"{folder}/calls", "POLICY": f"{folder}/policy"}


def test_root_has_a_package_installed_and_its_service_does_not_start(
    machine: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert debian.install("broker", machine)

    calls = Path(machine["CALLS"]).read_text(encoding="utf-8").splitlines()
    assert [call.split()[0] for call in calls] == ["install", "update", "install"]
    assert all("policy=there" in call for call in calls)
    assert not Path(machine["POLICY"]).exists()
    assert "MOTET_TEST_INSTALL=0" in capsys.readouterr().out


def test_nothing_is_installed_when_that_is_switched_off(machine: dict[str, str]) -> None:
    assert not debian.install("broker", {**machine, "MOTET_TEST_INSTALL": "0"})
    assert not Path(machine["CALLS"]).exists()


def test_nothing_is_installed_by_whoever_is_not_root(machine: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)

    assert not debian.install("broker", machine)
    assert not Path(machine["CALLS"]).exists()


def test_nothing_is_installed_where_there_is_no_apt(machine: dict[str, str]) -> None:
    assert not debian.install("broker", {**machine, "PATH": "/nowhere"})
