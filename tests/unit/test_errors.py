import inspect
import pickle
from datetime import timedelta

import pytest

from motet import errors

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and value.__module__ == errors.__name__]

# One value for each annotation in errors.py. A parameter of another type needs its line here.
SAMPLES: dict[str, object] = {
    "ErrorInfo": "boom",  # stands for any value that pickles
    "Iterable[str]": ["b", "a"],
    "bytes": b"\x00raw",
    "float | timedelta | None": 1.5,
    "int": 7,
    "str": "some text",
    "timedelta": timedelta(seconds=2),
}


def make(cls: type[Exception]) -> Exception:
    """Call the class with a value for every parameter that it names itself."""
    if "__init__" not in vars(cls):
        return cls("some text")
    positional: list[object] = []
    keywords: dict[str, object] = {}
    for parameter in list(inspect.signature(cls).parameters.values()):
        value = SAMPLES[parameter.annotation]
        if parameter.kind is parameter.KEYWORD_ONLY:
            keywords[parameter.name] = value
        else:
            positional.append(value)
    return cls(*positional, **keywords)


def test_all_names_every_class_and_nothing_else() -> None:
    assert errors.__all__ == sorted(cls.__name__ for cls in CLASSES)


@pytest.mark.parametrize("cls", CLASSES)
def test_class_says_when_it_is_raised(cls: type[Exception]) -> None:
    assert vars(cls)["__doc__"]


@pytest.mark.parametrize("cls", CLASSES)
def test_class_has_one_of_our_two_roots(cls: type[Exception]) -> None:
    assert issubclass(cls, errors.MotetError | errors.TaskSignal)


@pytest.mark.parametrize("cls", CLASSES)
def test_exception_survives_pickling(cls: type[Exception]) -> None:
    error = make(cls)

    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is cls
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if "__init__" in vars(cls)])
def test_exception_keeps_what_it_was_given_as_attributes(cls: type[Exception]) -> None:
    assert set(vars(make(cls))) == set(inspect.signature(cls).parameters)
