import os
from pathlib import Path

import pytest

from motet.cli.reload import Watch


def test_each_change_is_seen_once(tmp_path: Path) -> None:
    file = tmp_path / "pkg/tasks.py"
    file.parent.mkdir()
    file.write_text("a = 1\n")
    watch = Watch([str(tmp_path)])

    assert watch.changed() is None
    os.utime(file, ns=(1, 1))
    assert watch.changed() == str(file)
    assert watch.changed() is None
    file.unlink()
    assert watch.changed() == str(file)


@pytest.mark.parametrize("name", [".hidden/a.py", "venv/lib/a.py", "__pycache__/a.py", "pkg/a.txt"])
def test_what_is_no_source_of_the_users_is_left_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv/pyvenv.cfg").touch()
    watch = Watch([str(tmp_path)])

    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()

    assert watch.changed() is None


def test_folder_that_is_gone_has_no_files(tmp_path: Path) -> None:
    assert Watch([str(tmp_path / "nothing")]).changed() is None
