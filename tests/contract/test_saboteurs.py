"""Every clause has a saboteur that its own tests catch, and no other test; and every test catches one."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from harness import Saboteur, clauses, reds, saboteurs

from motet.conformance import BackendContract

for module in sorted(Path(__file__).parent.glob("saboteurs_*.py")):
    import_module(module.stem)  # they list themselves

caught: set[str] = set()
"""What the tests of this module have caught; with pytest-xdist one process runs them all (`--dist loadscope`)."""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("chosen", saboteurs, ids=lambda chosen: chosen.name)
def test_a_saboteur_is_red_in_its_own_clause_only(chosen: Saboteur) -> None:
    proven = BackendContract.claims()

    failed = reds(chosen)

    caught.update(failed)
    assert any(chosen.clause in proven[name] for name in failed), f"nothing catches {chosen.name}"
    allowed = {chosen.clause, *chosen.also}
    strangers = {name: reason for name, reason in failed.items() if not allowed & set(proven[name])}
    assert strangers == {}
    also = {clause for name in failed for clause in proven[name] if clause in chosen.also}
    assert also == set(chosen.also), "what cannot be separated is named because it is seen, not to be safe"


def test_every_clause_has_a_saboteur() -> None:
    assert {chosen.clause for chosen in saboteurs} == clauses()


def test_every_contract_test_catches_a_saboteur(request: pytest.FixtureRequest) -> None:
    mine = [item for item in request.session.items if item.path == request.path]
    if len(mine) < len(saboteurs):
        pytest.skip("only some of the saboteurs were run")
    assert sorted(set(BackendContract.claims()) - caught) == []


def test_without_a_saboteur_nothing_is_red() -> None:
    failed: dict[str, Any] = reds(None)

    assert failed == {}
