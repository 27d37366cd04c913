"""Every check of Motet: `python3 noxfile.py -s tests`, with nothing installed but python3, git and a network.

Run as a script, this file makes nox and uv for itself, once, in the user's cache, and hands over to them. Run by a
nox of yours (`nox -s tests`) it makes uv only. Each session then lets uv fill a venv under `.nox/` from uv.lock.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent
TOOLS = ("nox==2026.10.20", "uv==0.13.8")
PYTHONS = ("3.11", "3.12", "3.13")
BIN, PYTHON = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
DEFAULTS = {"UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never"}  # certificates and pythons are the machine's


# --- the bootstrap: standard library only; python 3.8 can read it, and is told that it is too old --------------------


def tools() -> Path:
    """Return the folder of nox's and uv's programs, in a venv that is made on first use and then kept."""
    identity = "\n".join((*TOOLS, platform.python_version(), sys.base_prefix))
    home = cache() / f"tools-{platform.python_version()}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
    with lock(Path(f"{home}.lock")):
        # A python that was removed leaves a dangling link behind, which does not `exist`.
        if not (home / "complete").exists() or not (home / BIN / PYTHON).exists():
            make_tools(home)
    return home / BIN


def make_tools(home: Path) -> None:
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        sys.exit(f"{sys.executable} cannot make a venv: `apt-get install python3-venv`, or use another python")
    print(f"preparing {' and '.join(TOOLS)} in {home} (once)", file=sys.stderr, flush=True)
    pip = [str(home / BIN / PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *TOOLS]
    for command in ([sys.executable, "-m", "venv", "--clear", str(home)], pip):
        code = subprocess.call(command)
        if code:
            sys.exit(f"could not prepare the tools: {' '.join(command)} ended with {code}")
    (home / "complete").touch()


def cache() -> Path:
    """Return a folder of ours that outlives this run: in the user's cache, or a temporary one of this user's."""
    home = os.environ.get("HOME")
    base = Path(os.environ.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else ""))
    folder = base / "motet"
    with suppress(OSError):
        if base.is_absolute():
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    return private()


def private() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"motet-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if hasattr(os, "getuid") and (not stat.S_ISDIR(found.st_mode) or found.st_uid != user or found.st_mode & 0o022):
        sys.exit(f"{folder} is not a private folder of this user: remove it, or set HOME or XDG_CACHE_HOME")
    os.environ.setdefault("UV_CACHE_DIR", str(folder / "uv"))
    return folder


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Let one process at a time in; the others wait. The system frees it when a process dies."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows has none: there, do not start twice the first time
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit(f"Motet needs Python 3.11 or newer; {sys.executable} is {platform.python_version()}")
    python = str(tools() / PYTHON)
    command = [python, "-m", "nox", "-f", str(Path(__file__).resolve()), *sys.argv[1:]]
    if os.name == "nt":
        sys.exit(subprocess.call(command))
    os.execv(python, command)


# --- the sessions -----------------------------------------------------------------------------------------------------

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "none"  # `Place` has uv make the venvs: one for each python and dependency group
nox.options.sessions = ["lint", "types", "contracts", "tests"]

OWN_SESSION = ("docs", "faults", "soak")  # folders of tests/ that `tests` leaves to the session of that name
FAST = ("tests/unit", "tests/laws")
BESIDE = ("-n", str(min(4, os.cpu_count() or 1)), "--dist", "loadscope")
"""So many tests at once: most wait, for a lease or a server. `-n0` or `--pdb` among the arguments undoes it."""
REPORT = ("-p", "motet.conformance.report", "--conformance-report=.nox/conformance.json")


class Place:
    """A venv holding the workspace and one dependency group, as uv.lock says; commands run in it."""

    def __init__(self, session: nox.Session, group: str | None = None, *, python: str = sys.executable) -> None:
        uv = str(tools() / "uv")
        version = subprocess.check_output(
            [python, "-c", "import platform; print(platform.python_version())"], text=True
        )
        self.session = session
        self.home = ROOT / ".nox" / f"{version.strip()}-{group or 'plain'}"
        self.env: dict[str, str | None] = {
            **{name: os.environ.get(name, value) for name, value in DEFAULTS.items()},
            "PATH": os.pathsep.join((str(self.home / BIN), os.environ.get("PATH", os.defpath))),
            "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR"),
            "UV_PROJECT_ENVIRONMENT": str(self.home),
            "VIRTUAL_ENV": str(self.home),
        }
        groups = ("--group", group) if group else ()
        command = (uv, "sync", "--quiet", "--locked", "--all-packages", "--no-default-groups", *groups)
        session.run(*command, "--python", python, env=self.env, external=True, silent=False)

    def run(self, program: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.session.run(str(self.home / BIN / program), *arguments, env={**self.env, **(env or {})}, external=True)

    def pytest(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.run("python", "-m", "pytest", *arguments, env=env)


@nox.session
def demo(session: nox.Session) -> None:
    """Run a real job on SQLite, with worker processes, and draw its progress."""
    Place(session).run("motet", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests. `-- --backends=sqlite,redis` chooses backends; the rest goes to pytest."""
    known = sorted(path.parent.name for path in ROOT.glob("backends/*/pyproject.toml"))
    chosen, arguments = list(known), []
    for argument in session.posargs:
        if argument.startswith("--backends="):
            chosen = [name for name in argument.partition("=")[2].split(",") if name]
        else:
            arguments.append(argument)
    if unknown := set(chosen) - {*known, "memory"}:
        session.error(f"no backend {', '.join(sorted(unknown))}: there are memory, {', '.join(known)}")
    if not any((ROOT / argument.partition("::")[0]).exists() for argument in arguments if argument[0] != "-"):
        folders = (f"backends/{name}/tests" for name in chosen)
        arguments += ["tests", *(folder for folder in folders if (ROOT / folder).exists())]
        arguments += [f"--ignore=tests/{name}" for name in OWN_SESSION]
    place = Place(session, "test")
    place.pytest(*BESIDE, *arguments, *REPORT, env={"MOTET_TEST_BACKENDS": ",".join(chosen)})
    if not session.posargs:
        guarantees(place, "--check")


@nox.session
def conformance(session: nox.Session) -> None:
    """Run the suite on every backend, and write docs/guarantees.md. `-- --matrix` runs it on every server we know."""
    place = Place(session, "test")
    suites = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("backends/*/tests/test_conformance.py"))
    arguments = [argument for argument in session.posargs if argument != "--matrix"]
    env = servers(place) if "--matrix" in session.posargs else {}
    place.pytest(*BESIDE, "tests/contract/test_memory.py", *suites, *REPORT, *arguments, env=env)
    if not session.posargs:
        guarantees(place)


def servers(place: Place) -> dict[str, str]:
    """Have every server of the matrix in a folder of its own; return what tells the tests of them."""
    home = ROOT / ".nox" / "servers"
    home.mkdir(parents=True, exist_ok=True)
    with lock(home / "lock"):
        place.run("python", "tests/servers/matrix.py", "--uv", str(tools() / "uv"), "--into", str(home))
        place.run("python", "tests/servers/rabbitmq_matrix.py", "--into", str(home))
        names = ("redis", "nats", "rabbitmq")
        return {f"MOTET_TEST_{each.upper()}_SERVERS": (home / f"{each}.json").read_text("utf-8") for each in names}


def guarantees(place: Place, *arguments: str) -> None:
    """Write, or compare, the page of guarantees with the report of the last run."""
    module = ("-m", "motet.conformance.guarantees")
    place.run("python", *module, ".nox/conformance.json", "--page", "docs/guarantees.md", *arguments)


@nox.session
def laws(session: nox.Session) -> None:
    """Search longer for a counterexample to each law."""
    place = Place(session, "test")
    place.pytest("tests/laws", "--timeout=600", *session.posargs, env={"HYPOTHESIS_PROFILE": "laws"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check the rules of style, the format, and the size of modules and functions."""
    place = Place(session, "lint")
    place.run("ruff", "check")
    place.run("ruff", "format", "--check")
    place.pytest("-q", "tests/unit/test_size.py")


@nox.session
def sim(session: nox.Session) -> None:
    """Simulate 12,000 new schedules of faults. `-- --replay SEED --mode ordered` tells the course of one."""
    simulate(session, *session.posargs)


def simulate(session: nox.Session, *arguments: str) -> None:
    Place(session, "test").run("python", "tests/sim/simulate.py", *arguments)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with mypy and pyright, and that every public symbol has one."""
    place = Place(session, "types")
    place.run("mypy")
    env = {"PYRIGHT_PYTHON_GLOBAL_NODE": "0", "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}  # node comes from uv.lock
    place.run("pyright", "--warnings", env=env)
    place.run("pyright", "--verifytypes", "motet", "--ignoreexternal", env=env)


@nox.session
def contracts(session: nox.Session) -> None:
    """Check that imports point inwards."""
    Place(session, "contracts").run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """Check the documentation: its links, its examples, its changelog."""
    place = Place(session, "docs")
    place.pytest("tests/docs", *session.posargs)
    place.run("towncrier", "build", "--draft", "--version", "next")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure. `-- --peers` measures the peers too and prints ratios."""
    uv = {"BENCH_UV": str(tools() / "uv")}  # with which it makes an environment for each peer
    Place(session, "bench").run("python", "tests/bench/run.py", *session.posargs, env=uv)


@nox.session
def faults(session: nox.Session) -> None:
    """Kill processes at every failpoint, 20 times each, and write docs/faults.md; `-- --kills 2` is quick."""
    kill(session, *session.posargs)


def kill(session: nox.Session, *arguments: str) -> None:
    Place(session, "test").run("python", "tests/faults/campaign.py", *arguments)


@nox.session
def build(session: nox.Session) -> None:
    """Build each distribution, install each alone with pip into an empty venv, and use it there."""
    with tempfile.TemporaryDirectory(prefix="motet-build-") as folder:
        dist, empty = Path(folder, "dist"), Path(folder, "empty")
        empty.mkdir()
        place = Place(session)
        uv = str(tools() / "uv")
        session.run(uv, "build", "--quiet", "--all-packages", "--out-dir", str(dist), env=place.env, external=True)
        wheels = sorted(dist.glob("*.whl"))
        ours = [f"{name.replace('_', '-')}=={version}" for name, version, *_ in (w.name.split("-") for w in wheels)]
        Path(folder, "ours.txt").write_text("\n".join(ours))
        for number, archive in enumerate((*wheels, *sorted(dist.glob("*.tar.gz")))):
            check_archive(archive)
            package = archive.name.split("-")[0]
            python = str(Path(folder, f"venv{number}", BIN, PYTHON))
            session.run(sys.executable, "-m", "venv", str(Path(folder, f"venv{number}")), external=True)
            pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--find-links", str(dist))
            session.run(*pip, "--constraint", str(Path(folder, "ours.txt")), str(archive), external=True)
            with session.chdir(empty):
                session.run(python, "-I", "-c", f"import {package}", external=True)
                if package == "motet_sqlite":
                    session.run(str(Path(python).with_name("motet")), "demo", external=True)


def check_archive(archive: Path) -> None:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            names = wheel.namelist()
    else:
        with tarfile.open(archive) as sdist:
            names = sdist.getnames()
    for wanted in ("LICENSE", "py.typed"):
        if not any(name.endswith(f"/{wanted}") for name in names):
            print(f"{archive.name} holds no {wanted}")
            raise CommandFailed


@nox.session
def ci(session: nox.Session) -> None:
    """Run everything on this python, and the unit tests, laws and types on every other one found."""
    others = interpreters()
    results = [attempt(check, session) for check in (lint, types, contracts, tests, docs, build, demo)]
    # The same schedules each time: what new ones find is a finding, not a reason to refuse an unrelated change.
    results.append(attempt(simulate, session, "--seed", "2000000", name="sim"))
    results += [attempt(on_other, session, path, name=f"python {minor}") for minor, path in others.items()]
    results.append(attempt(kill, session, "--kills", "2", name="faults"))
    for minor in PYTHONS:
        if minor not in others and not platform.python_version().startswith(f"{minor}."):
            session.warn(f"python {minor} was not found: nothing was checked on it")
    summarise(session, results)


@nox.session
def nightly(session: nox.Session) -> None:
    """Run what takes hours: more laws, the matrix of servers, faults, soak and the benchmarks."""
    place = Place(session, "test")
    results = [
        attempt(laws, session),
        attempt(simulate, session, "--minutes", "60", "--strict", name="sim"),
        attempt(matrix, session),
        attempt(kill, session, name="faults"),
        attempt(place.pytest, "tests/soak", name="soak"),
        attempt(bench, session),
    ]
    summarise(session, results)


def matrix(session: nox.Session) -> None:
    """Run the tests of all backends on every server we know."""
    place = Place(session, "test")
    place.pytest(*BESIDE, "backends", env=servers(place))


def on_other(session: nox.Session, python: str) -> None:
    place = Place(session, "types", python=python)
    place.pytest(*(folder for folder in FAST if (ROOT / folder).exists()))
    place.run("mypy")


def interpreters() -> dict[str, str]:
    """Find the other pythons we support, on PATH or made by pyenv: minor version to program."""
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob("*/bin"))
    search = os.pathsep.join((os.environ.get("PATH", os.defpath), *map(str, pyenv)))
    found: dict[str, str] = {}
    for minor in PYTHONS:
        for folder in search.split(os.pathsep):
            program = shutil.which(f"python{minor}", path=folder)
            probe = "import ensurepip, sys; print(sys.version_info[:2] == tuple(map(int, sys.argv[1].split('.'))))"
            if program and run_quietly(program, "-c", probe, minor) == "True":
                found.setdefault(minor, program)
    return {minor: path for minor, path in found.items() if not platform.python_version().startswith(f"{minor}.")}


def run_quietly(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def attempt(step: Callable[..., object], *arguments: object, name: str = "") -> tuple[str, bool, float]:
    start = time.monotonic()
    try:
        step(*arguments)
        passed = True
    except CommandFailed:
        passed = False
    return name or str(getattr(step, "__name__", step)), passed, time.monotonic() - start


def summarise(session: nox.Session, results: list[tuple[str, bool, float]]) -> None:
    print("\nsummary")
    for name, passed, seconds in results:
        print(f"  {'passed' if passed else 'FAILED'}  {seconds:6.1f} s  {name}")
    print(flush=True)
    if failed := [name for name, passed, _ in results if not passed]:
        session.error(f"failed: {', '.join(failed)}")
