import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from motet import BadBackend
from motet.backends import DISTS, open_backend
from motet.ports import Settings


@asynccontextmanager
async def opener(url: str, settings: Settings) -> AsyncIterator[Any]:
    yield url


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, and a module `adapter` that a dist in it may name."""
    module: Any = ModuleType("adapter")
    module.open = opener
    monkeypatch.setitem(sys.modules, "adapter", module)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(folder: Path, dist: str, entry_points: str) -> None:
    info = folder / f"{dist}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.mark.parametrize("dist", ["motet_stone", "stone"])
async def test_an_adapter_is_found_whatever_its_dist_is_called(adapter: Path, dist: str) -> None:
    install(adapter, dist, "[console_scripts]\nstone = nothing:here\n\n[motet.backends]\nstone = adapter:open\n")

    async with open_backend("stone://tablet", Settings()) as opened:
        assert str(opened) == "stone://tablet"


def test_a_scheme_in_another_group_is_no_adapter(adapter: Path) -> None:
    install(adapter, "motet_stone", "[console_scripts]\nstone = adapter:open\n")

    with pytest.raises(BadBackend, match="no backend serves stone://"):
        open_backend("stone://tablet", Settings())


def test_what_is_no_folder_on_the_path_is_passed_over(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (adapter / "archive.zip").write_bytes(b"")
    monkeypatch.syspath_prepend(adapter / "archive.zip")
    monkeypatch.syspath_prepend(adapter / "nowhere")

    monkeypatch.setitem(DISTS, "stone", "stone")

    with pytest.raises(BadBackend, match="pip install 'motet\\[stone\\]'"):
        open_backend("stone://tablet", Settings())
