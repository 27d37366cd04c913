"""A variable wins over what the code says, and one that makes no sense is named."""

from __future__ import annotations

from datetime import timedelta

import pytest

from motet import Motet, UsageError

VARIABLES = {
    "MOTET_URL": "memory://there",
    "MOTET_NAMESPACE": "blue",
    "MOTET_RESULT_TTL": "60",
    "MOTET_LEASE": "2.5",
    "MOTET_PUBLISH_TIMEOUT": "1",
}


def test_every_setting_of_the_app_has_a_variable_that_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)

    app = Motet("memory://here", namespace="red", result_ttl=5, lease=timedelta(seconds=9), publish_timeout=3)

    assert (app.url, app.namespace, app.result_ttl) == ("memory://there", "blue", 60.0)
    assert (app.lease, app.publish_timeout) == (timedelta(seconds=2.5), timedelta(seconds=1))


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")

    app = Motet("memory://here", namespace="red", lease=9)

    assert (app.url, app.namespace, app.lease) == ("memory://here", "red", timedelta(seconds=9))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MOTET_LEASE", "soon", "MOTET_LEASE='soon': write a number of seconds"),
        ("MOTET_RESULT_TTL", "-1", "result_ttl must be seconds"),
        ("MOTET_NAMESPACE", "a b", "id 'a b'"),
    ],
)
def test_a_variable_that_means_nothing_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(UsageError, match=words):
        Motet("memory://")
