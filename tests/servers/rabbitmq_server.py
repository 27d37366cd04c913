"""A RabbitMQ for tests: found on this machine, started in seconds, killed at will, gone in the end.

A server is, in this order: the one that MOTET_TEST_RABBITMQ_URL names; `rabbitmq-server` of this machine; on Debian
root has it installed, announced, unless MOTET_TEST_INSTALL is 0. MOTET_TEST_RABBITMQ_SERVERS is a JSON list of several:
the suite is then run on each.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import debian
from guarded import HOST, Guarded, Server, ServerFailed, free_port, wait_until

__all__ = [
    "Kind",
    "NoServer",
    "RabbitServer",
    "RunningServer",
    "ServerFailed",
    "find",
    "kinds",
    "of_line",
    "reported",
    "server_for",
]

OLDEST = (3, 10)
PACKAGE = "rabbitmq-server"
DEBIAN = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""The program itself; the one on Debian's PATH becomes the user of the service first."""
LISTED = Path(__file__).parents[2] / ".nox/servers/rabbitmq.json"
"""The matrix."""
PATIENCE = 60.0
"""Seconds until it answers: 4 on an idle machine, and up to 40 have been seen on one that does other work."""
HELLO = b"AMQP\x00\x00\x09\x01"
VERSION = re.compile(rb"\x07versionS\x00\x00\x00.([0-9.]+)", re.DOTALL)
BEGIN = '"$1" -port "$ERL_EPMD_PORT" -address 127.0.0.1 & exec "$2"'
"""Starts the register of Erlang nodes that RabbitMQ needs, where it dies with our group, and becomes RabbitMQ."""
ENTER = """
if unshare --mount true 2>/dev/null; then
    exec unshare --mount /bin/sh -c 'mount -t proc proc "$0/proc"; exec chroot "$0" "$@"' "$0" "$@"
fi
exec chroot "$0" "$@"
"""
"""Goes into a Debian, with a /proc that ends with the process: without it there are no alarms of memory and disk."""
REMEDIES = f"""there is no RabbitMQ for the tests. One of these will do:
  * MOTET_TEST_RABBITMQ_URL=amqp://USER:PASSWORD@HOST:PORT, one that runs already (the tests write into it);
  * `apt-get install {PACKAGE}` (as root the tests do that themselves, unless MOTET_TEST_INSTALL=0);
  * `brew install rabbitmq`;
  * `rabbitmq-server` on PATH, 3.10 or newer."""


class NoServer(LookupError):
    """This machine has no server, and these are the remedies."""

    def __init__(self) -> None:
        super().__init__(REMEDIES)


class RunningServer(Server):
    """A server that somebody else has started: it can be used, and neither killed nor restarted."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._version = ""

    @property
    def url(self) -> str:
        """Where it is, as the adapter wants to be told."""
        return self._url

    @property
    def version(self) -> str:
        """Its version as it reports it."""
        return self._version

    def start(self) -> None:
        """Use it as it is.

        Raises:
            ServerFailed: It is too old.
        """
        parts = urlsplit(self.url)
        self._version = reported(parts.hostname or HOST, parts.port or 5672)
        self.check()

    def check(self) -> None:
        """Look whether it is one that the tests are for.

        Raises:
            ServerFailed: It is too old.
        """
        if self.version and tuple(map(int, self.version.split(".")[:2])) < OLDEST:
            raise ServerFailed(f"the server at {self.url.rpartition('@')[2]} is {self.version}, too old")


@dataclass(frozen=True)
class Kind:
    """A server of the matrix."""

    name: str
    program: str
    line: str
    """What its version must begin with, such as "4.0"."""
    root: str = ""
    """The folder with a Debian of its own in which it runs; then its own folder is in there too."""


class RabbitServer(Guarded, RunningServer):
    """A server of our own, which guest:guest may use. Its folder is made within `folder`.

    `settings` are lines of its rabbitmq.conf: `consumer_timeout = 60000`, `disk_free_limit.absolute = 1TB`,
    `max_message_size = 65536`. `erlang` is for what that file does not know: `-rabbit channel_tick_interval 500` is how
    often it looks for consumers that are too slow. `line` is what its version must begin with, such as "3.10".

    `files` are put into its folder, which settings may call FOLDER. With `root` it runs in the Debian of that folder,
    which only root may do.
    """

    def __init__(
        self,
        program: str | Path,
        folder: str | Path | None = None,
        *,
        settings: Sequence[str] = (),
        files: Mapping[str, str] | None = None,
        erlang: str = "",
        line: str = "",
        root: str = "",
    ) -> None:
        Guarded.__init__(self, program, f"{root}/tmp" if root else folder)
        RunningServer.__init__(self, "")
        self.root = root
        self.settings = settings
        self.files = files or {}
        self.erlang = erlang
        self.line = line
        self.environment: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{HOST}:{self.port}"

    def start(self) -> None:
        """Start it on a free port, or on the port and the folder that it had, and wait until it can be used.

        Raises:
            ServerFailed: It ended, does not answer, or is not of the line that it should be.
        """
        if self.begin("rabbitmq-"):
            self.port = free_port()
            self.environment = self.made_up()
        for name, text in {**self.files, "rabbitmq.conf": "\n".join((*self.lines(), ""))}.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        try:
            self.spawn([], self.environment)
            wait_until(self.answers, f"{self.url} does not answer", PATIENCE)
            self.check()
        except BaseException as error:
            said = self.said() if isinstance(error, ServerFailed) else ""
            self.stop()
            if said and said not in str(error):
                raise ServerFailed(f"{error}{said}") from error
            raise

    def clear(self) -> None:
        """Empty it: everything is of the one vhost, which is made anew."""
        self.control("delete_vhost", "/")
        self.control("add_vhost", "/")
        self.control("set_permissions", "guest", ".*", ".*", ".*")

    def invocation(self, arguments: Sequence[str]) -> list[str]:
        return [*self.entrance, "/bin/sh", "-c", BEGIN, "begin", self.tool("epmd"), self.program, *arguments]

    @property
    def entrance(self) -> list[str]:
        """What goes into its Debian."""
        return ["/bin/sh", "-c", ENTER, self.root] if self.root else []

    @property
    def inside(self) -> Path:
        """Its folder, as it sees it."""
        return Path("/", self.folder.relative_to(self.root or "/"))

    def tool(self, name: str) -> str:
        """Find a program of Erlang.

        Raises:
            ServerFailed: There is none.
        """
        path = f"/usr/bin/{name}" if self.root else shutil.which(name)
        if path is None:
            raise ServerFailed(f"there is no {name} on PATH, though RabbitMQ is here: Erlang brings it")
        return path

    def made_up(self) -> dict[str, str]:
        """Make the environment in which it touches nothing but its folder, and no port but its own."""
        (self.folder / "home").mkdir()
        (self.folder / "enabled_plugins").write_text("[].\n", encoding="utf-8")
        control, folder = free_port(), self.inside
        kept = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin" if self.root else os.environ.get("PATH", os.defpath)}
        return {
            **kept,
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_CRASH_DUMP": str(folder / "crash.dump"),
            "HOME": str(folder / "home"),
            "LC_ALL": "C.UTF-8",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none.conf"),
            "RABBITMQ_CTL_DIST_PORT_MAX": str(control),
            "RABBITMQ_CTL_DIST_PORT_MIN": str(control),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "feature_flags"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_NODENAME": f"motet-{self.port}@localhost",
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_PLUGINS_EXPAND_DIR": str(folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-kernel inet_dist_use_interface {{127,0,0,1}} {self.erlang}",
            "RUNNING_UNDER_SYSTEMD": "true",  # it becomes the Erlang machine, and is not a shell that waits for one
        }

    def lines(self) -> list[str]:
        """The lines of its configuration."""
        settings = [line.replace("FOLDER", str(self.inside)) for line in self.settings]
        return [f"listeners.tcp.1 = {HOST}:{self.port}", "log.console.level = warning", *settings]

    def answers(self) -> bool:
        """Look whether it is up, and which version it says it is."""
        self.alive()
        try:
            self._version = reported(HOST, self.port)
        except OSError:
            return False
        return bool(self._version)

    def check(self) -> None:
        super().check()
        if self.line and not f"{self.version}.".startswith(f"{self.line}."):
            raise ServerFailed(
                f"the server of {self.program} says that it is {self.version}, and should be {self.line}"
            )

    def control(self, *words: str) -> str:
        """Run `rabbitmqctl`, which takes a second or two, and return what it says.

        Raises:
            ServerFailed: It refused.
        """
        done = subprocess.run(
            [*self.entrance, str(Path(self.program).with_name("rabbitmqctl")), "--quiet", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        if done.returncode:
            raise ServerFailed(f"rabbitmqctl {words[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    def user(self, name: str, password: str, *, rights: tuple[str, str, str] = (".*", ".*", ".*")) -> str:
        """Add a user with what it may configure, write and read, each a regular expression; return its URL."""
        self.control("add_user", name, password)
        self.control("set_permissions", name, *rights)
        return self.url.replace("guest:guest", f"{name}:{password}")


def reported(host: str, port: int) -> str:
    """Return the version that a server greets with; nothing when it greets with none.

    Raises:
        OSError: Nobody answers.
    """
    with socket.create_connection((host, port), 2) as made:
        made.sendall(HELLO)
        said = b""
        while not (found := VERSION.search(said)):
            more = made.recv(4096)
            if not more:
                return ""
            said += more
    return found[1].decode()


def find(environment: Mapping[str, str] = os.environ) -> str:
    """Find a program that can be started and killed; on Debian root has it installed first.

    Raises:
        NoServer: There is none.
    """
    for attempt in range(2):
        for path in (DEBIAN, shutil.which(PACKAGE, path=environment.get("PATH"))):
            if path and Path(path).exists():
                return path
        if attempt or not debian.install(PACKAGE, environment):
            break
    raise NoServer


def kinds(environment: Mapping[str, str] = os.environ) -> list[Kind | None]:
    """List the servers of the matrix; without a matrix None, for whichever is found."""
    listed = environment.get("MOTET_TEST_RABBITMQ_SERVERS")
    return [Kind(**each) for each in json.loads(listed)] if listed else [None]


def server_for(kind: Kind | None = None, folder: str | Path | None = None, **options: Any) -> RunningServer:
    """Make a server; `start` it, or use it as a context manager. It is a `RabbitServer`, unless others started it.

    Raises:
        NoServer: There is none.
    """
    if kind is not None:
        return RabbitServer(kind.program, folder, line=kind.line, root=kind.root, **options)
    if url := os.environ.get("MOTET_TEST_RABBITMQ_URL"):
        return RunningServer(url)
    return RabbitServer(find(), folder, **options)


def of_line(line: str, folder: str | Path) -> RabbitServer:
    """Make the server of the matrix whose version begins so, as `rabbitmq_matrix.py` has listed it; else any of ours.

    Raises:
        NoServer: There is none that we may kill.
    """
    if not line:
        return RabbitServer(find(), folder)
    listed = json.loads(LISTED.read_text(encoding="utf-8")) if LISTED.exists() else []
    for kind in (Kind(**each) for each in listed):
        if kind.line == line:
            return RabbitServer(kind.program, folder, line=kind.line, root=kind.root)
    raise NoServer
