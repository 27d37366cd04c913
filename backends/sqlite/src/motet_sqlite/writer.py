"""The thread that does all SQLite work of one open backend.

What is asked while a transaction runs is done together in the next one, with one fsync for all. If a batch fails, it
is rolled back and its steps are done one by one, so that only the bad one fails. That costs nothing while all is well;
a savepoint per step costs 2 to 4 us each, and could not share the statements of a batch.
"""

from __future__ import annotations

import selectors
import socket
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from motet.failpoints import hit, register
from motet.ports import Settings
from motet_sqlite import messages
from motet_sqlite.errors import of_environment, translate
from motet_sqlite.ledger import Ledger
from motet_sqlite.location import Location
from motet_sqlite.receivers import Dealt, Receivers
from motet_sqlite.request import Ask, Kind, Receive, Step, Withdraw
from motet_sqlite.schema import connect
from motet_sqlite.upkeep import upkeep
from motet_sqlite.wake import Bell

__all__ = ["FAILPOINTS", "Writer"]

FAILPOINTS = register(
    {
        "after_begin": "a transaction has begun",
        "before_settle": "an entry is about to be carried out; nothing of it is written",
        "in_settle": "an op is carried out in memory; nothing of it is written",
        "after_flush": "what a transaction owes is written, but not what it takes and gives back",
        "before_commit": "everything of a transaction is written; nothing of it is committed",
        "after_commit": "a transaction is committed; nobody has been told",
        "before_submit_commit": "the same as before_commit, in a transaction that publishes for a client",
        "after_submit_commit": "the same as after_commit, in a transaction that publishes for a client",
        "before_receive_commit": "the same as before_commit, in a transaction that leases messages",
        "after_receive_commit": "the same as after_commit, in a transaction that leased messages",
    }
)
"""Where a test may end or freeze the process, and what is done there (`motet.failpoints`)."""

UPKEEP = 60.0
LISTENING = 1.0
"""How often an idle process that waits for results sees whether its socket is still there."""
MOST_STEPS = 2000
"""Steps per transaction: 1,577 small publishes took 20 ms."""
WEAKER = "normal"
"""Commits without fsync, yet in order: a crash of the machine may undo the last of them, one of a process cannot."""


class Writer:
    """Serves requests until it is stopped. `tell` is called with what was answered, and the runs that were decided."""

    def __init__(
        self,
        location: Location,
        settings: Settings,
        tell: Callable[[list[Ask], list[str]], None],
        listened_to: Callable[[str], bool],
    ) -> None:
        self.location = location
        self.settings = settings
        self.tell = tell
        self.listened_to = listened_to
        self.broken: BaseException | None = None
        self._inbox: deque[Ask | Withdraw] = deque()
        self._asleep = False
        self._stopping = False
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._receivers = Receivers(settings)
        self._hops = 0
        self._version = 0
        self._answered: list[Ask] = []
        self._woken: list[str] = []
        self._upkeep: Iterator[None] | None = None
        self._next_upkeep = time.monotonic() + UPKEEP

    # From the loop's thread.

    def submit(self, request: Ask | Withdraw) -> None:
        """Hand over a request; the thread is nudged only if it sleeps."""
        self._inbox.append(request)
        if self._asleep:
            self._nudge()

    def stop(self) -> None:
        """Make the thread end, after what has been asked."""
        self._stopping = True
        self._nudge()

    def _nudge(self) -> None:
        self._asleep = False
        with suppress(OSError):
            self._theirs.send(b"\0")

    # The thread.

    def serve(self, opened: Ask) -> None:
        """Open the database, answer `opened`, then serve."""
        try:
            self._database = connect(self.location, self.settings.namespace, self.settings.timeout)
        except BaseException as error:  # noqa: BLE001 - it is raised where `open` is awaited
            self.broken = opened.error = self._translate(error)
            self._close_sockets()
            self.tell([opened], [])
            return
        self._bell = Bell(self.location.path)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._ours, selectors.EVENT_READ)
        self.tell([opened], [])
        try:
            while self._inbox or not self._stopping:
                self._round()
        except BaseException as error:  # noqa: BLE001 - whoever waits is told
            self.broken = self._translate(error)
        finally:
            self._close()

    def _close(self) -> None:
        """Leave nobody waiting, and nothing behind."""
        left = [*self._receivers.waiting, *(each for each in self._inbox if isinstance(each, Ask))]
        for request in left:
            request.answer, request.error = [], self.broken
        self._answered += left
        self._selector.close()
        self._bell.close()
        self._close_sockets()
        with suppress(Exception):
            self._database.close()
        self._report()

    def _close_sockets(self) -> None:
        self._ours.close()
        self._theirs.close()

    def _translate(self, error: BaseException) -> BaseException:
        return translate(error, str(self.location.path))

    def _round(self) -> None:
        try:
            self._sleep()
        except sqlite3.Error as error:
            # A look at the database failed: those for whom it was are told, and the thread goes on.
            self._answered += self._receivers.fail(self._translate(error))
        self._heed()
        asked = self._collect()
        steps = [step for request in asked for step in request.steps]
        if steps:
            self._write(steps)
            for request in asked:
                request.error = next((step.error for step in request.steps if step.error is not None), None)
                request.answer = [step.answer for step in request.steps]
        self._answered += asked
        self._serve_receivers()
        self._report()
        self._keep_up()

    def _report(self) -> None:
        if self._answered or self._woken:
            answered, self._answered = self._answered, []
            woken, self._woken = self._woken, []
            self.tell(answered, woken)

    # Waiting.

    def _sleep(self) -> None:
        self._asleep = False
        patience = self._patience()
        self._asleep = True
        # A request that came before the flag was up brought no nudge.
        if self._inbox or self._stopping or patience <= 0:
            self._asleep = False
            return
        heard = self._selector.select(patience)
        self._asleep = False
        if heard:
            with suppress(BlockingIOError):
                self._ours.recv(4096)
        else:
            self._look_around()

    def _patience(self) -> float:
        """Return for how many seconds there is nothing to do, if nobody calls."""
        if self._upkeep is not None:
            return 0.0
        patience = min(self._next_upkeep - time.monotonic(), self._receivers.patience(self._database))
        return min(patience, LISTENING) if self._bell.ears else patience

    def _look_around(self) -> None:
        """Nobody called for a while: see whether a wake-up was lost, or our sockets were."""
        for kind in list(self._bell.ears):
            if self._bell.deaf(kind):
                self._selector.unregister(self._bell.ears[kind][0])
                self._bell.leave(kind)
                self.listen(kind)
        version = self._database.rows("PRAGMA data_version")[0][0]
        if version != self._version:
            self._version = version
            self._receivers.stir()

    def listen(self, kind: str) -> None:
        """Have a socket for "w" or "r" from now on; in the thread."""
        if kind not in self._bell.ears:
            ear = self._bell.listen(kind)
            if ear is not None:
                self._selector.register(ear, selectors.EVENT_READ)

    def _heed(self) -> None:
        """Read what other processes sent."""
        if heard := self._bell.hear("w"):
            hops = max(datagram[0] for datagram in heard)
            if self._receivers.waiting:
                self._receivers.stir()
                self._hops = hops
            elif hops > 1:
                self._bell.ring(len(heard), hops - 1)
        for datagram in self._bell.hear("r"):
            self._woken += filter(self.listened_to, datagram.decode().split("\n"))

    # Requests.

    def _collect(self) -> list[Ask]:
        """Take requests out of the inbox; looks are answered, receivers join the others."""
        asked: list[Ask] = []
        count = 0
        while self._inbox and count < MOST_STEPS:
            request = self._inbox.popleft()
            match request:
                case Withdraw():
                    asked += self._withdraw(request.request)
                case Receive():
                    self._receivers.waiting.append(request)
                case Ask(look=None):
                    asked.append(request)
                    count += len(request.steps)
                case Ask():
                    self._look(request)
        return asked

    def _withdraw(self, receiver: Receive) -> list[Ask]:
        """Forget a receiver that was cancelled; give back what it was given in the same moment (T5)."""
        if receiver in self._receivers.waiting:
            self._receivers.waiting.remove(receiver)
        if not receiver.answer:
            return []
        receipts = [delivery.receipt for delivery in receiver.answer]
        receiver.answer = []

        def give_back(ledger: Ledger) -> None:
            ledger.ready += messages.release(ledger.database, receipts, None, untouched=True)

        return [Ask([Step(give_back, kind=Kind.DEED, durable=False)])]

    def _look(self, request: Ask) -> None:
        assert request.look is not None
        try:
            request.answer = request.look(self._database)
        except Exception as error:  # noqa: BLE001 - it is raised where the request is awaited
            request.error = self._translate(error)
        self._answered.append(request)

    def _write(self, steps: Sequence[Step]) -> None:
        """Do the steps together, or, when one of them is bad, each by itself."""
        try:
            self._attempt(steps)
        except Exception as error:  # noqa: BLE001 - it is raised where the step is awaited
            self._receivers.stir()
            if len(steps) == 1 or of_environment(error):
                for step in steps:
                    step.error = self._translate(error)
                return
            for step in steps:
                self._write([step])

    def _serve_receivers(self) -> None:
        """Look for those who are new, or have reason to hope, without a transaction if there is nothing."""
        receivers = self._receivers
        try:
            if receivers.hopeful() and receivers.promising(self._database):
                self._attempt([])
        except Exception as error:  # noqa: BLE001 - it is raised where `receive` is awaited
            self._answered += receivers.fail(self._translate(error))
        self._answered += receivers.dismiss()
        if receivers.waiting:
            self.listen("w")
            if self._hops > 1:
                self._bell.ring(1, self._hops - 1)
        self._hops = 0

    # Transactions.

    def _attempt(self, steps: Sequence[Step]) -> None:
        """One transaction: the steps, then whatever that, or time, makes ready for receivers.

        A message is published and received in one, so that a step of a chain costs one fsync.
        """
        database = self._database
        durable = any(step.durable for step in steps)
        submits = any(step.submits for step in steps)
        strength = self.location.synchronous
        database.sync(strength if durable or strength == "off" else WEAKER)
        with database.transaction():
            hit("after_begin")
            ledger = Ledger(database, self._receivers.now())
            answers = _carry_out(ledger, steps)
            dealt = self._receivers.deal(ledger) if ledger.ready or self._receivers.hopeful() else []
            _hit_all("before", submits, dealt)
        _hit_all("after", submits, dealt)
        for step, answer in zip(steps, answers, strict=True):
            step.answer = answer
        self._spread(ledger, dealt)

    def _spread(self, ledger: Ledger, dealt: Dealt) -> None:
        """After the commit: answer receivers, and wake whom it concerns, in other processes too."""
        if ledger.later:
            # Our own commits do not change `data_version`: nothing else would bring this to the receivers' notice.
            self._receivers.reconsider()
        self._answered += self._receivers.hand_out(dealt)
        if dealt:
            self._hops = 0
        left = ledger.ready - sum(len(deliveries) for _, deliveries in dealt)
        if left > 0:
            self._bell.ring(left)
        if ledger.decided:
            self._woken += filter(self.listened_to, ledger.decided)
            self._bell.announce(ledger.decided)

    def _keep_up(self) -> None:
        """Do a slice of upkeep when it is time for a round."""
        if self._upkeep is None:
            if time.monotonic() < self._next_upkeep:
                return
            self._next_upkeep = time.monotonic() + UPKEEP
            self._upkeep = upkeep(self._database, self._receivers.now)
        self._database.sync(WEAKER)
        try:
            next(self._upkeep)
        except StopIteration:
            self._upkeep = None
        except Exception as error:
            # A busy or full file spoils this round only; callers are told by their own requests.
            self._upkeep = None
            if not of_environment(error):
                raise


def _carry_out(ledger: Ledger, steps: Sequence[Step]) -> list[object]:
    """Do notes, write them, then do deeds; answers in the order of the steps."""
    notes = [step for step in steps if step.kind is Kind.NOTE]
    ledger.expect(
        [program for step in notes for program in step.programs], [each for step in notes for each in step.receipts]
    )
    answers = {id(step): step.run(ledger) for step in notes}
    ledger.flush()
    hit("after_flush")
    if deeds := [step for step in steps if step.kind is Kind.DEED]:
        answers.update((id(step), step.run(ledger)) for step in deeds)
        ledger.flush()
    return [answers[id(step)] for step in steps]


def _hit_all(when: str, submits: bool, dealt: Dealt) -> None:
    hit(f"{when}_commit")
    if submits:
        hit(f"{when}_submit_commit")
    if dealt:
        hit(f"{when}_receive_commit")
