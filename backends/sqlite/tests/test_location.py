from datetime import timedelta
from pathlib import Path

import pytest

import motet_sqlite
from motet.errors import BadBackend, Rejected
from motet.ports import Settings
from motet_sqlite import location, wake
from motet_sqlite.location import file_system, locate


def test_three_slashes_are_relative_and_four_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert locate("sqlite:///motet.db").path == tmp_path / "motet.db"
    assert locate(f"sqlite:///{tmp_path}/a%20b.db").path == tmp_path / "a b.db"
    assert locate("sqlite:///motet.db").synchronous == "full"
    assert locate("sqlite:///motet.db?synchronous=NORMAL").synchronous == "normal"


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("sqlite://:memory:", "memory://"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite://", "memory://"),
        ("sqlite:///", "memory://"),
        ("sqlite://host/motet.db", "three slashes"),
        ("sqlite://motet.db", "memory://"),
        ("sqlite:///motet.db?synchronous=maybe", "normal, full, off"),
        ("sqlite:///motet.db?cache=1", "unknown option cache"),
    ],
)
def test_other_urls_are_refused_with_advice(url: str, advice: str) -> None:
    with pytest.raises(BadBackend, match=advice):
        locate(url)


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=f"{tmp_path}/none does not exist"):
        locate(f"sqlite:///{tmp_path}/none/motet.db")


def test_network_file_systems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(location, "MOUNTS", mounts)
    monkeypatch.setattr("sys.platform", "linux")
    shared = tmp_path / "a share"
    shared.mkdir()
    escaped = str(shared).replace(" ", r"\040")
    mounts.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"23 22 0:40 / {escaped} rw shared:2 master:1 - nfs4 host:/export rw\n"
    )

    assert file_system(tmp_path / "motet.db") == "ext4"
    assert locate(f"sqlite:///{tmp_path}/motet.db").path.name == "motet.db"
    with pytest.raises(Rejected, match="nfs4 is a network file system"):
        locate(f"sqlite:///{shared}/motet.db")


def test_a_long_path_has_its_sockets_elsewhere() -> None:
    beside = wake.directory_for(Path("/srv/app/motet.db"))
    far = wake.directory_for(Path("/srv") / ("x" * 90) / "motet.db")

    assert beside == Path("/srv/app/motet.db.wake")
    assert far.parent == Path("/tmp")
    assert far != wake.directory_for(Path("/srv") / ("y" * 90) / "motet.db")


async def test_a_path_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="cannot be opened"):
        async with motet_sqlite.open(f"sqlite:///{tmp_path}", Settings(timeout=timedelta(seconds=1))):
            pass
