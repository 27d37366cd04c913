"""Leases of waiting and running work, renewed from a thread: a busy event loop must not lose its messages."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta

from motet.ports import Transport

__all__ = ["LeaseKeeper"]

log: logging.Logger = logging.getLogger("motet.worker")


class LeaseKeeper:
    """Renews every third of a lease, as long as the loop was heard of within `stall_limit`.

    `lost` collects what could not be renewed, for the loop to take away.
    """

    def __init__(
        self, transport: Transport, lease: timedelta, stall_limit: timedelta, held: Callable[[], list[str]]
    ) -> None:
        self.transport = transport
        self.interval: float = lease.total_seconds() / 3
        self.stall_limit: float = stall_limit.total_seconds()
        self.held = held
        self.lost: deque[str] = deque()
        self.seen: float = time.monotonic()
        self.stalled: bool = False
        self.stopped: threading.Event = threading.Event()
        self.thread: threading.Thread = threading.Thread(target=self._serve, name="motet-leases", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self.thread.start()

    def heard(self) -> None:
        """Note that the loop turns."""
        self.seen = time.monotonic()

    def stop(self) -> None:
        """End the thread."""
        self.stopped.set()

    def _serve(self) -> None:
        while not self.stopped.wait(self.interval):
            self.renew()

    def renew(self) -> None:
        """Renew everything held, unless the loop is silent; due every `interval`, in the thread or in its stead."""
        silent = time.monotonic() - self.seen
        if silent > self.stall_limit:
            if not self.stalled:
                log.critical("the event loop was silent for %.0f s: its work goes to other workers", silent)
            self.stalled = True
            return
        self.stalled = False
        self._extend(self.held())

    def _extend(self, receipts: list[str]) -> None:
        if not receipts:
            return
        try:
            kept = self.transport.extend(receipts)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next turn tries again
            log.warning("leases could not be renewed: %s", error)
            return
        self.lost.extend(receipt for receipt, held in zip(receipts, kept, strict=True) if not held)
