"""From `module:attr` or `path/file.py:attr` to an app, with an answer for everything that may be wrong."""

from __future__ import annotations

import importlib
import os
import sys
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from motet.errors import UsageError

if TYPE_CHECKING:
    from motet.app import Motet

__all__ = ["load_app", "roots"]

FORM = "write module:attribute or path/file.py:attribute, as in shop.tasks:app"


def load_app(target: str) -> Motet:
    """Import the app that a target names. The working directory is importable, as under `python -m`.

    A target without `:attribute` means the only app in the module.

    Raises:
        UsageError: The module or the attribute does not exist, is no app, or fails to import.
    """
    place, _, attribute = target.partition(":")
    if not place:
        raise UsageError(f"{target!r} names no app: {FORM}")
    sys.path[:0] = [root for root in roots(target) if root not in sys.path]
    module = imported(module_of(place), target)
    return chosen(module, attribute) if attribute else only(module)


def roots(target: str) -> list[str]:
    """The folders from which a target is imported: the working directory, and the root of a file."""
    place = target.partition(":")[0]
    found = [str(Path.cwd())]
    if is_file(place):
        root = Path(place).resolve().parent
        while (root / "__init__.py").exists():
            root = root.parent
        found.insert(0, str(root))
    return list(dict.fromkeys(found))


def is_file(place: str) -> bool:
    return place.endswith(".py") or os.sep in place


def module_of(place: str) -> str:
    if not is_file(place):
        return place
    path = Path(place)
    if not path.is_file():
        raise UsageError(f"there is no file {place} in {Path.cwd()}{near(path.name, files_in(path.parent))}")
    from motet.task import file_module

    return file_module(path)


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.py")] if folder.is_dir() else []


def imported(name: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"{name} cannot be imported: {error}") from error
        hint = near(name, [path[:-3] for path in files_in(Path())])
        raise UsageError(
            f"no module named {error.name!r} for {target!r}{hint}; {FORM}, and start in the folder that holds it "
            f"(this is {Path.cwd()})"
        ) from None
    except Exception as error:
        raise UsageError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def chosen(module: ModuleType, attribute: str) -> Motet:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = apps_of(module)
            hint = f"; its apps: {', '.join(known)}" if known else near(part, [n for n in dir(found) if n[0] != "_"])
            raise UsageError(f"{module.__name__} has no {attribute!r}{hint}")
        found = getattr(found, part)
    from motet.app import Motet

    if not isinstance(found, Motet):
        known = apps_of(module)
        hint = f"its apps: {', '.join(known)}" if known else "make one there: app = Motet('sqlite:///motet.db')"
        raise UsageError(f"{module.__name__}:{attribute} is not a Motet but {found!r:.80}; {hint}")
    return found


def only(module: ModuleType) -> Motet:
    known = apps_of(module)
    if len(known) == 1:
        return next(iter(known.values()))
    name = module.__name__
    if not known:
        raise UsageError(f"{name} holds no app: make one there, app = Motet('sqlite:///motet.db'), or name its module")
    raise UsageError(f"{name} holds {len(known)} apps: say which, {' or '.join(f'{name}:{each}' for each in known)}")


def apps_of(module: ModuleType) -> dict[str, Motet]:
    """The apps in a module, by the first name of each."""
    from motet.app import Motet

    found: dict[str, Motet] = {}
    for name, value in vars(module).items():
        if isinstance(value, Motet) and all(value is not other for other in found.values()):
            found[name] = value
    return found


def near(word: str, words: list[str]) -> str:
    close = get_close_matches(word, words, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""
