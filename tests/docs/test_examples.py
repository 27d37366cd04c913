"""No Python on a page is only read: programs are run, and sessions are held."""

from __future__ import annotations

import doctest
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from pages import EXAMPLES, PAGES, ROOT, blocks, expected

PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py") if expected(path) is not None)
WITH_WORKERS = {"order.py": ("shop:app", "-Q", "till,default")}
HAS_CLI = find_spec("motet.cli") is not None

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The examples, in a folder of their own: what they write shall not stay."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__", "*.db*")))


def python(folder: Path, *arguments: str, **environment: str) -> str:
    """Run a program, and return what it printed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MOTET_")}
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**env, **environment},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    return ended.stdout


@contextmanager
def workers(folder: Path, *arguments: str) -> Iterator[None]:
    """Have `motet worker` running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "motet", "worker", *arguments], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        log = process.stderr.readline()
        assert "started" in log, log + process.stderr.read()
        yield
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in WITH_WORKERS])
def test_program_prints_what_its_last_lines_say(name: str, folder: Path) -> None:
    assert python(folder, name) == expected(EXAMPLES / name)


@pytest.mark.skipif(not HAS_CLI, reason="this motet has no command line")
@pytest.mark.parametrize("name", sorted(WITH_WORKERS))
def test_program_finds_its_workers(name: str, folder: Path) -> None:
    with workers(folder, *WITH_WORKERS[name]):
        assert python(folder, name) == expected(EXAMPLES / name)


@pytest.mark.skipif(not HAS_CLI, reason="this motet has no command line")
def test_first_program_of_the_readme_is_served_by_workers_too(folder: Path) -> None:
    pasted = next(block.code for block in blocks(ROOT / "README.md") if block.language == "python")
    (folder / "app.py").write_text(pasted, encoding="utf-8")
    arguments = ("-m", "motet", "submit", "-A", "app:app", "add", "--args", "[2, 2]")

    with workers(folder, "app:app", "-w", "2"):
        assert python(folder, "app.py") == "9900\n"
        assert python(folder, *arguments, "--wait", "--timeout", "30") == "4\n"


def test_tests_of_the_tutorial_pass(folder: Path) -> None:
    printed = python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py", MOTET_URL="memory://")

    assert "4 passed" in printed


def test_adapter_of_the_guide_keeps_the_clauses_that_it_has_come_to(folder: Path) -> None:
    adapter = folder / "adapter"
    report = ("-p", "motet.conformance.report", "--conformance-report=folder.json")

    printed = python(adapter, "-m", "pytest", "-q", "-p", "no:cacheprovider", *report, "tests", PYTHONPATH="src")
    table = python(adapter, "-m", "motet.conformance.guarantees", "folder.json")

    assert "9 passed" in printed
    assert [line.endswith("| proven |") for line in table.splitlines() if line.startswith("| **W")] == [True] * 3


def test_each_program_is_on_a_page() -> None:
    shown = {block.example for page in PAGES for block in blocks(page)}
    programs = (path for path in EXAMPLES.rglob("*") if path.suffix in (".py", ".toml"))

    assert {str(path.relative_to(EXAMPLES)) for path in programs} <= shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_copies_of_programs_are_exact(page: Path) -> None:
    for block in blocks(page):
        if block.example:
            assert block.code == (EXAMPLES / block.example).read_text(encoding="utf-8"), block.example


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_on_a_page_runs_and_answers_as_written(page: Path) -> None:
    module = ModuleType(page.stem)
    sys.modules[page.stem] = module
    runner, parser = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), doctest.DocTestParser()
    said: list[str] = []
    try:
        for block in blocks(page):
            name = f"{page.name}, line {block.line}"
            if block.language == "python" and not block.example:
                exec(compile("\n" * block.line + block.code, str(page), "exec"), vars(module))
            elif block.language == "pycon":
                held = parser.get_doctest(block.code, {}, name, str(page), block.line)
                held.globs = vars(module)
                runner.run(held, out=said.append, clear_globs=False)
    finally:
        del sys.modules[page.stem]

    assert not said, "".join(said)


def test_sessions_were_held() -> None:
    assert sum(block.language == "pycon" for page in PAGES for block in blocks(page)) > 10
