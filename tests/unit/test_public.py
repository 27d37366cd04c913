import ast
import subprocess
import sys
from pathlib import Path

import pytest

import motet

SOURCE = Path(motet.__file__).read_text(encoding="utf-8")


def test_every_public_name_is_there() -> None:
    assert [name for name in motet.__all__ if not hasattr(motet, name)] == []


def test_checkers_and_programs_see_the_same_names() -> None:
    tree = ast.parse(SOURCE)
    imported = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("motet.")
        for alias in node.names
    }

    assert sorted(imported) == sorted(motet.__all__)
    assert {module.removeprefix("motet.") for module in imported.values()} == set(motet.HOMES)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Motett'"):
        motet.Motett  # type: ignore[attr-defined]  # noqa: B018 - asked for by a typing error


def modules_after(statement: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys; {statement}; print(*sys.modules)"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_supervisor_knows_neither_the_app_nor_an_event_loop() -> None:
    loaded = modules_after("import motet.cli.worker, motet.cli.supervisor")

    assert loaded & {"motet.app", "motet.worker", "anyio", "asyncio", "rich", "msgspec", "attrs"} == set()


def test_worker_process_knows_neither_click_nor_rich() -> None:
    loaded = modules_after("import motet.cli.child, motet.cli.target, motet.app, motet.memory")

    assert loaded & {"click", "rich", "trio", "sqlite3", "dateutil", "cronsim", "pydantic"} == set()
