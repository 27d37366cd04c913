"""The lists that must name each distribution or module do name it."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MEMBERS = sorted(
    path.parent for pattern in ("core", "backends/*", "contrib/*") for path in ROOT.glob(f"{pattern}/pyproject.toml")
)
ADAPTERS = [member for member in MEMBERS if member.parent.name == "backends"]
PURE = {
    "binding",
    "canvas",
    "capabilities",
    "codec",
    "depth",
    "errors",
    "identity",
    "message",
    "options",
    "outcome",
    "parameters",
    "program",
    "retry",
    "schedule",
}


def read(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def contract(name: str) -> dict[str, Any]:
    (found,) = (c for c in read(ROOT)["tool"]["importlinter"]["contracts"] if c["name"].startswith(name))
    return dict(found)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_distribution_carries_the_licence(member: Path) -> None:
    assert (member / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_package_says_that_it_is_typed(member: Path) -> None:
    assert [path.parent.parent for path in member.glob("src/*/py.typed")] == [member / "src"]


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_distribution_is_known_to_the_workspace_and_the_type_checker(member: Path) -> None:
    root = read(ROOT)

    assert root["tool"]["uv"]["sources"][read(member)["project"]["name"]] == {"workspace": True}
    assert f"{member.relative_to(ROOT)}/src" in root["tool"]["mypy"]["mypy_path"]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
def test_adapter_is_an_extra_of_core_and_under_every_contract(adapter: Path) -> None:
    dist, package = f"motet-{adapter.name}", f"motet_{adapter.name}"
    (own,) = (d for d in read(adapter)["project"]["dependencies"] if d.startswith("motet~="))

    assert read(ROOT / "core")["project"]["optional-dependencies"][adapter.name] == [own.replace("motet", dist)]
    assert package in read(ROOT)["tool"]["importlinter"]["root_packages"]
    assert package in contract("Core knows no adapter")["forbidden_modules"]
    assert package in contract("Adapters do not know each other")["modules"]


def test_every_pure_module_that_exists_is_under_the_contract_of_purity() -> None:
    source = ROOT / "core/src/motet"
    exist = {name for name in PURE if (source / name).is_dir() or (source / f"{name}.py").exists()}

    assert contract("The heart is pure")["source_modules"] == sorted(f"motet.{name}" for name in exist)


def test_no_contract_has_an_exception() -> None:
    assert [c["name"] for c in read(ROOT)["tool"]["importlinter"]["contracts"] if "ignore_imports" in c] == []
