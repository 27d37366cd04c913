"""Who waits for messages in this process, and when there is reason to look for them."""

from __future__ import annotations

import time
from datetime import timedelta

from motet.ports import Delivery, Settings
from motet_sqlite import messages
from motet_sqlite.database import Database
from motet_sqlite.ledger import Ledger
from motet_sqlite.request import Ask, Receive

__all__ = ["POLL", "Dealt", "Receivers"]

POLL = 0.25
"""The backstop for lost wake-ups: `PRAGMA data_version` takes 4 us."""

Dealt = list[tuple[Receive, list[Delivery]]]


class Receivers:
    """The waiting receivers, oldest first; used by the writer's thread."""

    def __init__(self, settings: Settings) -> None:
        self.waiting: list[Receive] = []
        self.stirred = False
        self.lease: timedelta = settings.lease
        self._clock = settings.clock
        self._agenda: messages.Agenda | None = None

    def now(self) -> float:
        """Return the wall time."""
        return self._clock.now().timestamp()

    def stir(self) -> None:
        """Note that something changed: look again."""
        self._agenda = None
        self.stirred = True

    def reconsider(self) -> None:
        """Note that something may be due earlier than was known."""
        self._agenda = None

    def patience(self, database: Database) -> float:
        """Return for how many seconds they may be left alone."""
        if not self.waiting:
            return float("inf")
        if self.stirred:
            return 0.0
        if self._agenda is None:
            self._agenda = messages.agenda(database)
        first = min(receiver.give_up for receiver in self.waiting)
        return min(POLL, first - time.monotonic(), self._agenda.left(self.now()))

    def hopeful(self) -> bool:
        """Say whether anybody should look at the database."""
        if not self.waiting:
            return False
        is_time = self._agenda is not None and self._agenda.arrived(self.now())
        return self.stirred or is_time or any(receiver.fresh for receiver in self.waiting)

    def promising(self, database: Database) -> bool:
        """Look, without a transaction: an idle poll writes nothing and takes 30 us."""
        self._agenda = messages.agenda(database)
        found = self._agenda.arrived(self.now()) or any(
            messages.waiting(database, receiver.lanes, paused=receiver.paused) for receiver in self.waiting
        )
        if not found:
            self._looked()
        return found

    def deal(self, ledger: Ledger) -> Dealt:
        """Give each receiver what there is for it; inside a transaction."""
        database = ledger.database
        if messages.agenda(database).arrived(ledger.now):
            ledger.ready += messages.turn(database, ledger.now)
        dealt: Dealt = []
        for receiver in self.waiting:
            if not receiver.withdrawn and receiver.limit > 0:
                taken = messages.take(database, receiver.lanes, receiver.limit, self.lease, paused=receiver.paused)
                if taken:
                    dealt.append((receiver, taken))
        self._looked()
        self._agenda = None
        return dealt

    def _looked(self) -> None:
        self.stirred = False
        for receiver in self.waiting:
            receiver.fresh = False

    def hand_out(self, dealt: Dealt) -> list[Ask]:
        """After the commit: answer those who got something."""
        for receiver, deliveries in dealt:
            receiver.answer = deliveries
            self.waiting.remove(receiver)
        return [receiver for receiver, _ in dealt]

    def dismiss(self) -> list[Ask]:
        """Answer those whose time is over."""
        now = time.monotonic()
        over = [each for each in self.waiting if each.give_up <= now or each.limit <= 0]
        for receiver in over:
            receiver.answer = []
            self.waiting.remove(receiver)
        return [*over]

    def fail(self, error: BaseException) -> list[Ask]:
        """Answer everybody with an error."""
        failed, self.waiting = self.waiting, []
        for receiver in failed:
            receiver.error = error
        return [*failed]
