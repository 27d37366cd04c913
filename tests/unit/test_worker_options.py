from datetime import timedelta

import pytest

from motet import UsageError
from motet.worker.options import Options


def test_durations_are_seconds_or_timedelta() -> None:
    assert Options(grace=5).grace == Options(grace=timedelta(seconds=5)).grace == timedelta(seconds=5)


def test_a_duration_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError):
        Options(grace="soon")  # type: ignore[arg-type]
