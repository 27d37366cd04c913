import io
import json
import logging
from typing import Any

from motet.cli.logs import JsonLines


def line(message: str, *args: Any, **options: Any) -> dict[str, Any]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("motet.worker")
    logger.addHandler(handler)
    try:
        logger.warning(message, *args, **options)
    finally:
        logger.removeHandler(handler)
    data: dict[str, Any] = json.loads(stream.getvalue())
    return data


def test_names_before_the_percent_become_fields() -> None:
    written = line("failed task=%s run=%s attempt=%d", "shop:add", "r1", 2)

    assert written | {"ts": 0, "pid": 0} == {
        "ts": 0,
        "pid": 0,
        "level": "warning",
        "logger": "motet.worker",
        "event": "failed",
        "task": "shop:add",
        "run": "r1",
        "attempt": 2,
    }
    assert written["ts"].endswith("+00:00")


def test_values_without_a_name_stay_in_the_event() -> None:
    written = line("worker lost %d times: task=%s is given up", 3, "shop:add")

    assert (written["event"], written["task"]) == ("worker lost 3 times: is given up", "shop:add")


def test_message_that_is_no_template_is_the_event() -> None:
    assert line("100% done")["event"] == "100% done"
    assert line("%(a)s", {"a": 1})["event"] == "1"


def test_usual_fields_may_come_as_extra() -> None:
    assert line("done", extra={"duration": 0.5})["duration"] == 0.5


def test_exception_is_a_field() -> None:
    written = line("crashed", exc_info=ValueError("no luck"))

    assert written["exception"].endswith("ValueError: no luck")
