"""A short simulation, with every seed that ever failed; `python3 noxfile.py -s sim` is the long one."""

import logging
from collections.abc import Iterator

import pytest
from contention import Contending, contend
from crashpoints import WORKFLOWS, singles
from mutants import MUTANTS, Mutant
from schedule import Report, simulate
from simulate import Saved, saved

from motet import Retry
from motet.outcome import Failure, Kind
from motet.worker.resolve import Job, error_info
from motet.worker.settle import Waiting

MODES = ["fused", "ordered"]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Faults make the core complain, and rightly so."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(before)


def violations(reports: Iterator[Report]) -> list[str]:
    return [f"{report.mode} {report.seed}: {report.violations[0]}" for report in reports if report.violations]


@pytest.mark.parametrize("start", range(0, 500, 100))
def test_fused_schedules_of_faults_break_no_invariant(start: int) -> None:
    assert violations(simulate(seed, "fused") for seed in range(start, start + 100)) == []


@pytest.mark.parametrize("start", range(0, 100, 50))
def test_ordered_schedules_of_faults_break_no_invariant(start: int) -> None:
    assert violations(simulate(seed, "ordered") for seed in range(start, start + 50)) == []


@pytest.mark.parametrize("case", saved(), ids=lambda case: f"{case.mode}-{case.seed}")
def test_what_once_failed_does_not_fail_again(case: Saved) -> None:
    assert simulate(case.seed, case.mode).violations == []


@pytest.mark.parametrize("mode", MODES)
def test_a_chord_survives_a_crash_at_any_call(mode: str) -> None:
    assert violations(report for name, report in singles(mode, WORKFLOWS[:1])) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_schedule_is_the_same_whenever_it_is_performed(mode: str) -> None:
    first, second = (simulate(7, mode, trace=True) for _ in range(2))

    assert len(first.trace) > 10
    assert first.trace == second.trace


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_wrong_protocol_is_noticed_at_its_seeds_and_the_right_one_passes_them(mutant: Mutant) -> None:
    assert mutant.seeds
    for seed in mutant.seeds[:2]:
        with mutant.in_force():
            wrong = simulate(seed, mutant.mode)
        assert wrong.violations != [], f"seed {seed} does not show it any more: simulate.py --mutants finds others"
        assert simulate(seed, mutant.mode).violations == []


@pytest.mark.parametrize("mode", MODES)
def test_r38_waiting_for_a_lock_charges_no_attempt(mode: str) -> None:
    reports = [contend(seed, mode) for seed in range(30)]

    assert violations(iter(reports)) == []
    assert sum(report.executions for report in reports) > 250


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_retry_charged_on_contention_is_noticed_at_its_seeds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def charge(self: Contending, job: Job) -> Waiting | None:
        return await self.conclude(job, Failure(error_info(job, Kind.EXCEPTION, "Retry", "busy"), Retry("busy")))

    monkeypatch.setattr(Contending, "busy", charge)

    assert any("R38" in each for each in contend(seed, "fused").violations)
