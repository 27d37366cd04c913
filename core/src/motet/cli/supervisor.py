"""The parent of the worker processes: starts them, starts them again, passes signals on.

It uses the standard library only and never imports the app, so that whatever the app does, somebody small is left to
clean up. Each child holds one end of a socket pair. A child that reads the end of it knows that the supervisor is
dead; the supervisor reads one byte from it when the child is ready.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from motet.cli.exits import FAILED, OK, USAGE
from motet.cli.reload import Watch

__all__ = ["Supervisor"]

log: logging.Logger = logging.getLogger("motet.supervisor")

LEEWAY = 3.0
"""Seconds beyond the grace after which a child that does not end is killed: its loop is stuck."""
STAGGER = 2.0
"""The first child starts alone, so that what is wrong with the app is said once; the others wait this long for it."""
STEADY = 30.0
"""A child that lived so long did not crash because of how it starts."""
BACKOFF = 30.0
RELOAD_GRACE = 5.0
LOOK = 0.5


class Slot:
    """One child that there should be. `due` says when to start it; None when it runs, or need not."""

    def __init__(self, due: float) -> None:
        self.due: float | None = due
        self.process: subprocess.Popen[bytes] | None = None
        self.link: socket.socket | None = None
        self.ready = False
        self.started: float = 0.0
        self.crashes = 0
        self.kill_at: float | None = None

    def send(self, number: int) -> None:
        """Signal the child, if there is one."""
        if self.process is not None:
            self.process.send_signal(number)


class Supervisor:
    """Keeps `workers` children running until it is told to stop, or, with `burst`, until they have ended."""

    def __init__(
        self,
        target: str,
        settings: Mapping[str, Any],
        *,
        workers: int = 1,
        grace: float = 30.0,
        burst: bool = False,
        watch: Sequence[str] = (),
    ) -> None:
        self.target = target
        self.settings: dict[str, Any] = dict(settings)
        self.grace = grace
        self.burst = burst
        self.watch: Watch | None = Watch(watch) if watch else None
        self.look_at: float = time.monotonic() + LOOK
        start = time.monotonic()
        self.slots: list[Slot] = [Slot(start + (STAGGER if number else 0.0)) for number in range(workers)]
        self.signals: list[int] = []
        self.wakeup: int = -1
        self.booted: bool = False
        self.stopping: bool = False
        self.code: int = OK

    def run(self) -> int:
        """Supervise; return the exit code: 0 after a clean stop."""
        with self._hearing():
            while True:
                self._start_due()
                if self.stopping and not self._alive():
                    return self.code
                if not self._alive() and not any(slot.due is not None for slot in self.slots) and self.watch is None:
                    return self.code
                self._wait()
                for number in self._taken():
                    self._signalled(number)
                for slot in self.slots:
                    self._look_after(slot)
                self._reload_if_changed()

    # Starting.

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in self.slots:
            if slot.due is not None and slot.due <= now and not self.stopping:
                self._start(slot)

    def _start(self, slot: Slot) -> None:
        ours, theirs = socket.socketpair()
        settings = json.dumps({"link": theirs.fileno(), **self.settings})
        # `-P` keeps the working directory from shadowing what the child imports before the app.
        command = [sys.executable, "-P", "-m", "motet.cli.child", self.target, settings]
        with theirs:
            slot.process = subprocess.Popen(  # noqa: S603 - ourselves
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C in the terminal reaches the supervisor only
                preexec_fn=die_with_parent,  # noqa: PLW1509 - there are no threads here
            )
        ours.setblocking(False)
        slot.link, slot.ready, slot.due, slot.kill_at = ours, False, None, None
        slot.started = time.monotonic()

    def _alive(self) -> bool:
        return any(slot.process is not None for slot in self.slots)

    # Waiting.

    def _wait(self) -> None:
        """Sleep until a signal, a child that is ready, or a time that was set."""
        now = time.monotonic()
        times = [moment for slot in self.slots for moment in (slot.due, slot.kill_at) if moment is not None]
        if self.watch is not None:
            times.append(self.look_at)
        links: list[socket.socket | int] = [
            slot.link for slot in self.slots if slot.link is not None and not slot.ready
        ]
        patience = max(0.0, min(times) - now) if times else None
        readable, _, _ = select.select([*links, self.wakeup], [], [], patience)
        if self.wakeup in readable:
            with suppress(BlockingIOError):
                os.read(self.wakeup, 4096)

    def _taken(self) -> list[int]:
        taken, self.signals[:] = self.signals[:], []
        return [number for number in taken if number != signal.SIGCHLD]

    def _look_after(self, slot: Slot) -> None:
        if slot.process is None:
            return
        if not slot.ready and slot.link is not None:
            with suppress(BlockingIOError, ConnectionError):
                slot.ready = slot.link.recv(1) == b"r"
            if slot.ready:
                self._booted()
        if slot.process.poll() is not None:
            self._ended(slot, slot.process)
        elif slot.kill_at is not None and slot.kill_at <= time.monotonic():
            log.error("killed child=%d: it did not end within its grace", slot.process.pid)
            slot.kill_at = None
            self.code = self.code if not self.stopping else FAILED
            slot.send(signal.SIGKILL)

    def _booted(self) -> None:
        """The first child is ready: the others need not wait any longer."""
        if not self.booted:
            self.booted = True
            now = time.monotonic()
            for slot in self.slots:
                slot.due = now if slot.due is not None and not slot.crashes else slot.due

    # Ending.

    def _ended(self, slot: Slot, process: subprocess.Popen[bytes]) -> None:
        """Decide what follows from the end of a child."""
        reloading = slot.kill_at is not None
        if slot.link is not None:
            slot.link.close()
        slot.process, slot.link, slot.kill_at = None, None, None
        now = time.monotonic()
        code = process.returncode
        if self.stopping or (self.burst and code == OK):
            return
        if reloading:
            slot.due = now
        elif code == USAGE and not self.booted:
            if self.watch is None:
                self.code = USAGE
                self._stop(signal.SIGTERM)
            else:
                log.info("waiting for a change of the source files")
        else:
            slot.crashes = 1 if now - slot.started > STEADY else slot.crashes + 1
            pause = min(0.1 * 2 ** (slot.crashes - 1), BACKOFF)
            slot.due = now + pause
            log.warning("child=%d %s; another starts in %.1f s", process.pid, manner(code), pause)

    def _signalled(self, number: int) -> None:
        if not self.stopping:
            alive = sum(slot.process is not None for slot in self.slots)
            log.info("%s: stopping workers=%d grace=%g; once more kills them", name(number), alive, self.grace)
            self._stop(number)
            return
        log.warning("%s again: killing the workers", name(number))
        self.code = 128 + number
        for slot in self.slots:
            slot.send(signal.SIGKILL)

    def _stop(self, number: int) -> None:
        self.stopping = True
        for slot in self.slots:
            slot.due = None
            slot.kill_at = time.monotonic() + self.grace + LEEWAY
            slot.send(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

    # Reloading.

    def _reload_if_changed(self) -> None:
        now = time.monotonic()
        if self.watch is None or self.stopping or now < self.look_at:
            return
        path = self.watch.changed()
        self.look_at = time.monotonic() + LOOK
        if path is None:
            return
        log.info("reloading path=%s", path)
        for slot in self.slots:
            slot.crashes = 0
            if slot.process is None:
                slot.due = now
            else:
                slot.kill_at = now + min(self.grace, RELOAD_GRACE)
                slot.send(signal.SIGTERM)

    # Signals.

    @contextmanager
    def _hearing(self) -> Generator[None]:
        """Note signals, and let them end the wait."""
        self.wakeup, write = os.pipe()
        os.set_blocking(self.wakeup, False)
        os.set_blocking(write, False)
        wanted = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # under nohup the terminal may go
            wanted.append(signal.SIGHUP)
        before = {number: signal.signal(number, lambda got, _: self.signals.append(got)) for number in wanted}
        descriptor = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(descriptor)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self.wakeup)
            os.close(write)


def name(number: int) -> str:
    return signal.Signals(number).name


def manner(code: int) -> str:
    """Say how a process ended."""
    return f"was ended by {name(-code)}" if code < 0 else f"ended with exit code {code}"


def _parental_bond() -> Callable[[], None] | None:
    """On Linux, have the kernel kill a child whose parent dies; elsewhere the end of the socket must do."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None

    def bind() -> None:
        prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG

    return bind


die_with_parent: Callable[[], None] | None = _parental_bond()
