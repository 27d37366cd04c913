import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for dist in ("core", "backends/*", "contrib/*") for path in ROOT.glob(f"{dist}/src/**/*.py"))
MODULE_LINES = 500
FUNCTION_LINES = 60


def functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_there_are_modules_to_measure() -> None:
    assert {path.parent.name for path in MODULES} >= {"motet", "motet_sqlite"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_module_can_be_read_in_one_sitting(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= MODULE_LINES
    assert [(name, lines) for name, lines in functions(ast.parse(text)) if lines > FUNCTION_LINES] == []
