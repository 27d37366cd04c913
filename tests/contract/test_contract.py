"""How the suite reads what a test raised."""

import pytest

from motet.conformance.contract import only


def test_what_pytest_raises_did_not_see_is_a_failure_even_in_a_group() -> None:
    failed = pytest.fail.Exception("DID NOT RAISE")

    assert only(BaseExceptionGroup("tasks", [BaseExceptionGroup("tasks", [failed])])) is failed


def test_the_end_of_the_run_is_no_failure_that_a_gap_could_expect() -> None:
    with pytest.raises(KeyboardInterrupt):
        only(BaseExceptionGroup("tasks", [KeyboardInterrupt()]))
