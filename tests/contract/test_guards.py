"""The suite cannot be passed by accident: no silent override, no unknown or closed gap, no clause without a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_memory as on_memory

from motet import Motet
from motet.conformance import BackendContract, Contract, Stage, TimersContract
from motet.conformance.contract import proves
from motet.conformance.faults import faults
from motet.conformance.guarantees import SOURCES, clauses, main, table
from motet.ports import Settings

Memory = on_memory.Memory
LETTERS = "BTSDCXLNPWEF"


def subclass(**body: Any) -> type[Contract]:
    return type("TestTheirs", (TimersContract,), body)


def outcome(cls: type[Any], name: str) -> Callable[[], None]:
    """Return what pytest would call."""
    made: Any = type("Mixed", (cls,), {"connect": Memory.connect, "clock": Memory.clock})()
    return lambda: getattr(made, name)(fault="plain", loop="asyncio")


def test_replacing_a_contract_test_is_a_type_error() -> None:
    async def test_d4_what_comes_through_timers_is_suspect(self: Any, stage: Stage) -> None: ...

    with pytest.raises(TypeError, match="replaces a contract test: declare a gap instead"):
        subclass(test_d4_what_comes_through_timers_is_suspect=test_d4_what_comes_through_timers_is_suspect)


def test_claiming_a_clause_elsewhere_is_a_type_error() -> None:
    @proves("D4")
    async def test_d4_mine(self: Any, stage: Stage) -> None: ...

    with pytest.raises(TypeError, match=r"only motet\.conformance can"):
        subclass(test_d4_mine=test_d4_mine)


def test_tests_of_ones_own_are_welcome() -> None:
    def test_mine(self: Any) -> None: ...

    assert subclass(test_mine=test_mine).claims() == TimersContract.claims()


def test_a_gap_must_name_a_clause_that_there_is() -> None:
    with pytest.raises(TypeError, match="unknown clauses: D99"):
        subclass(gaps={"D99": "why not"})


def test_a_gap_that_is_closed_is_red() -> None:
    cls = subclass(gaps={"D4": "we thought so"})

    with pytest.raises(pytest.fail.Exception, match="the gap is closed: remove 'D4'"):
        outcome(cls, "test_d4_what_comes_through_timers_is_suspect")()


def test_a_gap_that_is_open_is_expected() -> None:
    async def broken(self: Any, stage: Stage) -> None:
        raise AssertionError("as the backend does it")

    original = TimersContract.test_d4_what_comes_through_timers_is_suspect
    cls = subclass(gaps={"D4": "its timers do not mark"})
    body = original.__dict__["__body__"]
    original.__dict__["__body__"] = broken
    try:
        with pytest.raises(pytest.xfail.Exception, match="gap D4: its timers do not mark"):
            outcome(cls, "test_d4_what_comes_through_timers_is_suspect")()
    finally:
        original.__dict__["__body__"] = body


def test_what_needs_a_restart_is_unproven_without_the_hook() -> None:
    class Durable(Memory):
        """Memory that claims to outlive its broker, and cannot restart it."""

        def declared(self, test: Any, capabilities: Any) -> None: ...

    run = Durable().test_b5_what_was_accepted_survives_a_restart

    with pytest.raises(pytest.skip.Exception, match=r"unproven: there is no restart\(\) hook"):
        run(fault="plain", loop="asyncio")


def test_every_clause_is_in_its_ports_docstring_and_has_a_test() -> None:
    written = [clause.id for source in SOURCES for clause in clauses(source)]
    tested = {clause for proven in BackendContract.claims().values() for clause in proven}

    assert sorted(written) == sorted(set(written))
    assert set(written) == tested
    assert {clause[0] for clause in written} == set(LETTERS)


@pytest.mark.parametrize("name", BackendContract.claims())
def test_a_contract_test_is_named_after_a_clause_that_it_proves(name: str) -> None:
    proven = BackendContract.claims()[name]

    assert name.split("_")[1].upper() in proven


def test_r75_every_case_is_run_plain_doubled_and_with_each_reply_lost() -> None:
    """R75: one suite for any backend, with faults injected, and what is missing declared."""
    assert set(faults) == {"plain", "doubled", "reply_lost"}
    repeated = [name for name in BackendContract.claims() if getattr(BackendContract, name).__repeats__]
    assert len(repeated) > 70


async def test_r76_what_users_test_with_passes_the_suite_without_a_gap() -> None:
    """R76: `memory://` is the backend that `tests/contract/test_memory.py` proves, and it declares no gap."""
    async with Motet("memory://") as app, Memory().connect(Settings()) as proven:
        assert type(app.backend) is type(proven)
    assert dict(Memory.gaps) == {}
    assert on_memory.TestMemory.claims() == on_memory.TestMemoryOrdered.claims() == BackendContract.claims()


def test_a_page_is_written_between_its_markers(tmp_path: Path) -> None:
    report, page = tmp_path / "report.json", tmp_path / "page.md"
    report.write_text('{"Theirs": {"D1": {"state": "proven"}}}')
    page.write_text("# Ours\n\n<!-- clauses -->\nwas here\n<!-- end of clauses -->\n\nrest\n")
    arguments = [str(report), "--page", str(page)]

    assert main([*arguments, "--check"]) == 1
    assert main(arguments) == main([*arguments, "--check"]) == 0
    assert "was here" not in page.read_text()
    assert page.read_text().startswith("# Ours\n\n<!-- clauses -->\n\n### Backend\n")
    assert page.read_text().endswith("\n<!-- end of clauses -->\n\nrest\n")


def test_the_table_shows_what_became_of_each_clause() -> None:
    report = {
        "D1": {"state": "proven"},
        "D2": {"state": "failed", "reason": "test_d2"},
        "D3": {"state": "gap", "reason": "D3: see 7"},
    }

    written = table({"Theirs": report})

    assert "| **D2** It survives what published messages survive. | **failed** |" in written
    assert "* D3 on Theirs, gap: D3: see 7" in written
    assert "* D4 on Theirs, unproven: not run" in written
    assert "D1 on Theirs" not in written
