import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from motet.cli.target import load_app, roots
from motet.errors import UsageError

APP = "from motet import Motet\n\napp = Motet()\n\n\n@app.task\ndef add(x: int, y: int) -> int:\n    return x + y\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("seaside"):
            del sys.modules[name]


def write(path: Path, text: str = APP) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refusal(target: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_app(target)
    return str(caught.value)


def test_module_in_the_working_directory_is_found(place: Path) -> None:
    write(place / "seaside.py")

    assert list(load_app("seaside:app").registry.definitions) == ["seaside:add"]


def test_attribute_may_be_left_out_when_there_is_one_app(place: Path) -> None:
    write(place / "seaside1.py")

    assert load_app("seaside1") is load_app("seaside1:app")


def test_file_in_a_package_is_named_as_a_worker_would_import_it(place: Path) -> None:
    write(place / "src/seaside2/__init__.py", "")
    file = write(place / "src/seaside2/tasks.py")

    assert list(load_app(f"{file}:app").registry.definitions) == ["seaside2.tasks:add"]
    assert roots(f"{file}:app") == [str(place / "src"), str(place)]


def test_module_that_does_not_exist_names_those_that_are_near(place: Path) -> None:
    write(place / "seaside3.py")

    assert "did you mean seaside3?" in refusal("seasidee3:app")
    assert str(place) in refusal("seasidee3:app")


def test_file_that_does_not_exist_names_those_that_are_near(place: Path) -> None:
    write(place / "seaside4.py")

    assert "did you mean seaside4.py?" in refusal("./seasid4.py:app")


def test_attribute_that_does_not_exist_names_the_apps(place: Path) -> None:
    write(place / "seaside5.py")

    assert refusal("seaside5:ap") == "seaside5 has no 'ap'; its apps: app"


def test_attribute_that_is_no_app_is_shown(place: Path) -> None:
    write(place / "seaside6.py")

    assert refusal("seaside6:add") == "seaside6:add is not a Motet but <task seaside6:add>; its apps: app"


def test_several_apps_are_listed(place: Path) -> None:
    write(place / "seaside7.py", APP + "\n\nother = Motet()\n")

    assert refusal("seaside7").endswith("say which, seaside7:app or seaside7:other")


def test_module_without_an_app_says_how_to_make_one(place: Path) -> None:
    write(place / "seaside8.py", "x = 1\n")

    assert "app = Motet(" in refusal("seaside8")


def test_error_inside_the_module_is_the_cause(place: Path) -> None:
    write(place / "seaside9.py", "import seaside_nothing\n")
    write(place / "seaside10.py", "1 / 0\n")

    assert refusal("seaside9:app") == "seaside9 cannot be imported: No module named 'seaside_nothing'"
    with pytest.raises(UsageError) as caught:
        load_app("seaside10:app")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_empty_target_says_what_to_write() -> None:
    assert "module:attribute" in refusal(":app")
