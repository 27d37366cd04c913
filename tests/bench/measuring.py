"""What the workloads share: CPU seconds of this process and of others, and the way to be run in a fresh process."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SERVERS = HERE.parent / "servers"

Workload = Callable[..., dict[str, Any]]


def cpu_seconds() -> float:
    """CPU seconds of this process so far, all its threads together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cpu_seconds_of(pid: int) -> float:
    """The same of another process: the scheduler counts nanoseconds, the usual file only hundredths of a second."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def peak_rss_mib() -> float:
    """The most memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def pss_mib(pid: int) -> float:
    """Memory of a process, with its share of what it shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (size,) = (line.split()[1] for line in lines if line.startswith("Pss:"))
    return int(size) / 1024


class Watch:
    """CPU and wall seconds of a stretch of work."""

    def __init__(self) -> None:
        self.cpu, self.wall = cpu_seconds(), time.perf_counter()

    def read(self) -> dict[str, float]:
        return {"cpu": cpu_seconds() - self.cpu, "wall": time.perf_counter() - self.wall}


def in_child(module: str, workload: str, **settings: Any) -> dict[str, Any]:
    """Run `workload(**settings)` of a module beside this one in a fresh process, and return what it returned."""
    command = [sys.executable, str(HERE / "measuring.py"), module, workload, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    if done.returncode:
        raise RuntimeError(f"{module}.{workload} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def environment() -> dict[str, str]:
    """The variables of a child: none that would send it to another backend, or have it compile all that it imports."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MOTET_", "PYTHON"))}
    paths = (str(HERE), str(SERVERS), os.environ.get("PYTHONPATH"))
    return {**ours, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@contextlib.contextmanager
def database() -> Iterator[str]:
    """The URL of a new database file, in a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="motet-bench-") as folder:
        yield f"sqlite:///{folder}/bench.db"


def backend_options(uvloop: bool) -> dict[str, Any]:
    """What `anyio.run` needs to use uvloop, or not to."""
    return {"backend_options": {"use_uvloop": uvloop}}


def main() -> None:
    module, workload, settings = sys.argv[1:]
    result = getattr(__import__(module), workload)(**json.loads(settings))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
