import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from motet.cli import supervisor
from motet.cli.exits import code_of
from motet.cli.root import VERBS, cli
from motet.errors import BadBackend, LeaseLost, ResultGone, Unavailable, UnknownRun, UnknownTask

APP = """
from dataclasses import dataclass
from datetime import date

from motet import Motet, ExponentialBackoff, Priority, Size

app = Motet("{url}")


@dataclass
class Person:
    name: str
    born: date


@app.task
def add(x: int, y: int = 1) -> int:
    return x + y


@app.task(
    queue="mail",
    priority=Priority.BACKGROUND,
    size=Size.SMALL,
    timeout=5,
    retry_policy=ExponentialBackoff(1, max_retries=3),
)
async def age(person: Person, at: date) -> int:
    return (at - person.born).days


@app.task
def greet(*names: str, **options: str) -> str:
    return f"hello {" and ".join(names)}{options.get('end', '')}"


@app.task
def boom() -> None:
    raise ValueError("no luck")
""".replace('{" and "', "{' and '")

Motet = Callable[..., Result]


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module with an app on a SQLite file."""
    name = f"cli_app_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(APP.replace("{url}", f"sqlite:///{tmp_path}/motet.db"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for variable in [each for each in os.environ if each.startswith("MOTET_")]:
        monkeypatch.delenv(variable)
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def motet(name: str, monkeypatch: pytest.MonkeyPatch) -> Motet:
    monkeypatch.setenv("MOTET_APP", f"{name}:app")
    return lambda *args, **options: CliRunner().invoke(cli, [str(each) for each in args], **options)


def data_of(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_help_lists_every_verb_and_the_exit_codes(motet: Motet) -> None:
    text = motet("--help").output

    assert all(f"\n  {verb} " in text for verb in VERBS)
    assert "130" in text
    assert "interrupted" in text


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(motet: Motet, verb: str) -> None:
    assert motet(verb, "--help").exit_code == 0


def test_version_is_that_of_the_distribution(motet: Motet) -> None:
    assert motet("--version").output.startswith("motet 0.")


def test_unknown_verb_is_wrong_usage(motet: Motet) -> None:
    assert motet("wroker").exit_code == 2


def test_no_app_says_how_to_name_one(motet: Motet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOTET_APP")

    result = motet("tasks")

    assert result.exit_code == 2
    assert "-A module:attr" in result.stderr


def test_bad_app_path_is_one_line(motet: Motet) -> None:
    result = motet("-A", "nowhere:app", "tasks")

    assert result.exit_code == 2
    assert result.stderr.startswith("error: no module named 'nowhere'")
    assert len(result.stderr.splitlines()) == 1


def test_app_may_stand_after_the_verb(motet: Motet, name: str) -> None:
    assert motet("-A", "nowhere:app", "tasks", "-A", f"{name}:app").exit_code == 0


def test_tasks_are_listed_with_their_options(motet: Motet, name: str) -> None:
    listed = {each["name"].partition(":")[2]: each for each in data_of(motet("tasks", "--json"))}

    assert sorted(listed) == ["add", "age", "boom", "greet"]
    assert listed["age"] == {
        "name": f"{name}:age",
        "queue": "mail",
        "priority": "background",
        "size": "small",
        "retry": "ExponentialBackoff x3",
        "timeout": 5.0,
        "executor": "event loop",
    }
    assert "ExponentialBackoff x3" in motet("tasks").stdout


def test_call_prints_the_result(motet: Motet, name: str) -> None:
    assert motet("call", "add", "--args", "[1, 2]").stdout == "3\n"
    assert motet("call", f"{name}:add", "--kwargs", '{"x": 4}').stdout == "5\n"
    assert motet("call", "greet", "--args", '["a", "b"]', "--kwargs", '{"end": "!"}').stdout == "hello a and b!\n"


def test_call_reads_json_by_annotation(motet: Motet, name: str) -> None:
    person = {"name": "Ada", "born": "2020-01-01"}

    result = motet("call", "age", "--args", json.dumps([person, "2020-02-01"]), "--json")

    assert data_of(result) == {"task": f"{name}:age", "result": 31}


def test_failed_call_shows_the_tasks_own_traceback(motet: Motet) -> None:
    result = motet("call", "boom")

    assert result.exit_code == 1
    assert 'raise ValueError("no luck")' in result.stderr
    assert result.stderr.rstrip().endswith("boom failed: ValueError: no luck")
    assert json.loads(motet("call", "boom", "--json").stdout)["error"]["type"] == "ValueError"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["call", "ad"], "this app knows"),
        (["call", "add"], "still needs x"),
        (["call", "add", "--args", "[1, 2, 3]"], "positional"),
        (["call", "add", "--args", '["a"]'], "argument 'x'"),
        (["call", "add", "--args", "[1"], "write a JSON list"),
        (["call", "add", "--kwargs", "[]"], "write a JSON object"),
        (["submit", "add", "--args", "[1]", "--queue", "a/b"], "queue='a/b'"),
        (["submit", "add", "--args", "[1]", "--priority", "high"], "realtime"),
        (["run", "show", "a b"], "letters, digits"),
        (["queue", "pause", "a b"], "letters, digits"),
        (["worker", "--size", "huge"], "small, medium, large"),
        (["worker", "-w", "0"], "x>=1"),
    ],
)
def test_wrong_usage_says_what_is_right(motet: Motet, arguments: list[str], words: str) -> None:
    result = motet(*arguments)

    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["run", "show", "r"], ["run", "watch", "r"], ["run", "cancel", "r"], ["run", "list"], ["queue", "list"]],
)
def test_m14_other_processes_see_nothing_of_memory(
    motet: Motet, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("MOTET_URL", "memory://")

    result = motet(*arguments)

    assert result.exit_code == 2
    assert "the memory backend does not support 'shared'" in result.stderr


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("memory://", 2, "does not support 'shared'"),
        ("amqp://:secret@nowhere?shards=none", 2, "shards is a number"),
        ("mysql://nowhere", 2, "no backend serves mysql://"),
        ("sqlite:////nowhere/motet.db", 3, "create it first"),
    ],
)
def test_backend_that_cannot_be_used_says_what_to_do(
    motet: Motet, monkeypatch: pytest.MonkeyPatch, url: str, code: int, words: str
) -> None:
    monkeypatch.setenv("MOTET_URL", url)

    result = motet("submit", "add", "--args", "[1]")

    assert (result.exit_code, "secret" in result.output) == (code, False)
    assert words in result.stderr


def test_submitted_run_can_be_shown_cancelled_and_watched(motet: Motet) -> None:
    run = motet("submit", "add", "--args", "[1]", "--id", "r1").stdout.strip()

    assert run == "r1"
    assert data_of(motet("run", "show", run, "--json"))["state"] == "pending"
    assert [each["ready"] for each in data_of(motet("queue", "list", "--json")) if each["queue"] == "default"] == [1]
    assert motet("run", "cancel", run, "--reason", "enough").exit_code == 0
    assert motet("submit", "add", "--args", "[1]", "--timeout", "0").exit_code == 1


def test_unknown_run_has_a_code_of_its_own(motet: Motet) -> None:
    for verb in ("show", "watch", "cancel"):
        result = motet("run", verb, "nothing")
        assert (result.exit_code, result.stderr[:24]) == (4, "error: run nothing is no")


def test_purge_asks_first_and_cancels(motet: Motet) -> None:
    run = motet("submit", "add", "--args", "[1]").stdout.strip()

    assert motet("queue", "purge", "default", input="n\n").exit_code == 1
    assert data_of(motet("queue", "purge", "default", "--yes", "--json")) == {"queue": "default", "cancelled": 1}
    assert data_of(motet("run", "show", run, "--json"))["state"] == "cancelled"
    assert motet("run", "watch", run).exit_code == 1


def test_paused_queue_is_shown_and_can_be_purged(motet: Motet) -> None:
    assert motet("queue", "pause", "mail").exit_code == 0
    assert [each["queue"] for each in data_of(motet("queue", "list", "--json")) if each["paused"]] == ["mail"]
    assert data_of(motet("queue", "purge", "mail", "--yes", "--json")) == {"queue": "mail", "cancelled": 0}
    assert motet("queue", "resume", "mail").exit_code == 0
    assert [each["queue"] for each in data_of(motet("queue", "list", "--json")) if each["paused"]] == []


def test_doctor_finds_all_well(motet: Motet) -> None:
    found = {each["check"]: each["state"] for each in data_of(motet("doctor", "--json"))}

    assert set(found) == {
        "python",
        "versions",
        "clock",
        "app",
        "tasks",
        "backend",
        "capabilities",
        "wake-up",
        "queues",
    }
    assert "fail" not in found.values()


def test_doctor_names_what_is_wrong_and_fails(motet: Motet, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    motet("queue", "pause", "mail")
    assert "motet queue resume mail" in motet("doctor").stdout

    del sys.modules[name]  # the app reads the variable when it is made
    monkeypatch.setenv("MOTET_URL", "sqlite:////nowhere/motet.db")
    result = motet("doctor")
    assert result.exit_code == 1
    assert "create it first" in result.stdout

    assert motet("-A", "nowhere:app", "doctor").exit_code == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadBackend("x"), 2),
        (UnknownTask("x"), 2),
        (Unavailable("x"), 3),
        (LeaseLost("x"), 3),
        (UnknownRun("x"), 4),
        (ResultGone("x"), 1),
    ],
)
def test_exit_codes_are_stable(error: Any, code: int) -> None:
    assert code_of(error) == code


class Recorded:
    """Stands in for the supervisor."""

    settings: dict[str, Any]
    options: dict[str, Any]

    def __init__(self, target: str, settings: dict[str, Any], **options: Any) -> None:
        type(self).settings, type(self).options = settings, {"target": target, **options}

    def run(self) -> int:
        return 0


def test_worker_takes_the_flag_then_the_variable_then_the_code(
    motet: Motet, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(supervisor, "Supervisor", Recorded)
    for variable, value in {"CONCURRENCY": "7", "QUEUES": "a, b", "WORKERS": "3", "BURST": "1"}.items():
        monkeypatch.setenv(f"MOTET_{variable}", value)

    assert motet("worker", "-c", 9, "--size", "small,large", "--grace", "1.5").exit_code == 0

    assert Recorded.settings == {
        "concurrency": 9,
        "queues": ("a", "b"),
        "sizes": ("small", "large"),
        "grace": 1.5,
        "burst": True,
        "log_level": "info",
        "log_format": "text",
    }
    assert Recorded.options == {"target": f"{name}:app", "workers": 3, "grace": 1.5, "burst": True, "watch": ()}


def test_no_color_is_respected(motet: Motet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    assert "\x1b[" not in motet("tasks", color=True).output
