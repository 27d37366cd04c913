import missing
import pytest


def pytest_configure(config: pytest.Config) -> None:
    missing.watch(config)
