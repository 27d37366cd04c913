"""One transaction: what it has read, and what it is going to write.

Programs are carried out here in memory, and written at the end with a few statements for all of them: 100 arrivals
at a barrier write one row, 100 records take two INSERTs. `BEGIN IMMEDIATE` keeps every other writer out meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from motet.failpoints import hit
from motet.message import DeadLetter, Key, Parcel, pack
from motet.ports import Barrier, Delivery, Entry, Reply
from motet.program import (
    Arrival,
    Arrive,
    Bury,
    Do,
    Drop,
    Flag,
    Guard,
    Once,
    Op,
    Open,
    Publish,
    Put,
    Retry,
    carry_out,
)
from motet_sqlite.database import Database, array
from motet_sqlite.holders import release
from motet_sqlite.values import blob, lane_name, micros, refuse, text

__all__ = ["RUN", "SEPARATOR", "Ledger", "Slots", "bounds", "flat", "seat"]

SEPARATOR, NUL = "\x1f", "\0"
RUN = "r"
MARK = b"1"
SOON = 0.3
"""A parcel that is due within so many seconds wakes receivers now; later ones are found by their poll of 250 ms."""


def flat(key: Key) -> str:
    """Return the form in which a key is stored.

    Raises:
        UsageError: It would be that of another key, or could not be asked for.
    """
    run, name = key
    stored = run + SEPARATOR + name
    if SEPARATOR in run or NUL in stored:
        refuse("key", key)
    return stored


def bounds(run: str) -> tuple[str, str]:
    """Return the bounds of a run's stored keys."""
    return run + SEPARATOR, run + chr(ord(SEPARATOR) + 1)


def seat(receipt: str) -> tuple[int, int]:
    """Return a receipt's row and the token that the row had when it was handed out; (0, 0) when it is not ours."""
    seq, _, token = receipt.partition(".")
    try:
        return int(seq), int(token)
    except ValueError:
        return 0, 0


class Slots:
    """A barrier, with its slots in the order in which they arrived."""

    __slots__ = ("arrived", "changed", "failed", "fast", "max_failed", "seen", "size")

    def __init__(self, size: int, max_failed: int, fast: int, failed: int = 0, arrived: bytes = b"\x90") -> None:
        self.size, self.max_failed, self.fast, self.failed = size, max_failed, bool(fast), failed
        self.arrived: list[int] = msgspec.msgpack.decode(arrived, type=list[int])
        self.seen = set(self.arrived)
        self.changed = False

    def arrive(self, slot: int, failed: int) -> Arrival:
        """Add a slot, then tell the level."""
        if slot not in self.seen:
            self.seen.add(slot)
            self.arrived.append(slot)
            self.failed += failed
            self.changed = True
        return Arrival(self.size, len(self.arrived), self.failed, self.max_failed, self.fast)

    def state(self) -> Barrier:
        return Barrier(self.size, tuple(self.arrived), self.failed, self.max_failed, self.fast)

    def row(self, key: str) -> tuple[object, ...]:
        arrived = msgspec.msgpack.encode(self.arrived)
        return key, self.size, self.max_failed, self.fast, self.failed, arrived


class Ledger:
    """What a transaction knows and owes. `now` is the wall time of all its due times and expiries."""

    def __init__(self, database: Database, now: float) -> None:
        self.database = database
        self.now = now
        self.ready = 0
        self.later = False
        self.decided: set[str] = set()
        self._records: dict[Key, bytes | None] = {}
        self._written: dict[Key, tuple[bytes, float | None]] = {}
        self._dropped: set[Key] = set()
        self._barriers: dict[Key, Slots | None] = {}
        self._seats: dict[str, tuple[int, int]] = {}
        self._held: dict[int, int | None] = {}
        self._parcels: list[tuple[object, ...]] = []
        self._flags: list[tuple[object, ...]] = []
        self._acked: list[int] = []
        self._letters: list[tuple[object, ...]] = []
        self._released: set[str] = set()

    # Reading ahead: one statement for all that a batch is sure to ask.

    def expect(self, programs: Iterable[Sequence[Op]], receipts: Iterable[str]) -> None:
        """Read what programs will ask first. What only a branch asks is read when it is taken."""
        records: set[Key] = set()
        barriers: set[Key] = set()
        for program in programs:
            for op in program:
                match op:
                    case Once() | Retry():
                        records.add(op.key)
                    case Guard():
                        records.update(op.keys)
                    case Arrive() | Open():
                        barriers.add(op.key)
                    case _:
                        pass
        self._read_records(records)
        self._read_barriers(barriers)
        self._seats = {receipt: seat(receipt) for receipt in receipts}
        self._read_held([seq for seq, _ in self._seats.values()])

    def _read_records(self, keys: Iterable[Key]) -> None:
        missing = {flat(key): key for key in keys if key not in self._records}
        if not missing:
            return
        self._records.update(dict.fromkeys(missing.values()))
        sql = "SELECT key, value, expires FROM {record} WHERE key IN (SELECT value FROM json_each(?))"
        for name, value, expires in self.database.rows(sql, array(missing)):
            if expires is None or expires > self.now:
                self._records[missing[name]] = value
            else:
                self._dropped.add(missing[name])

    def _read_barriers(self, keys: Iterable[Key]) -> None:
        missing = {flat(key): key for key in keys if key not in self._barriers}
        if not missing:
            return
        self._barriers.update(dict.fromkeys(missing.values()))
        sql = (
            "SELECT key, size, max_failed, fast, failed, arrived FROM {barrier} "
            "WHERE key IN (SELECT value FROM json_each(?))"
        )
        for name, *values in self.database.rows(sql, array(missing)):
            self._barriers[missing[name]] = Slots(*values)

    def _read_held(self, rows: Iterable[int]) -> None:
        missing = [seq for seq in rows if seq not in self._held]
        if missing:
            self._held.update(dict.fromkeys(missing))
            sql = "SELECT seq, token FROM {message} WHERE state = 2 AND seq IN (SELECT value FROM json_each(?))"
            self._held.update(self.database.rows(sql, array(missing)))

    # Records and barriers.

    def read(self, key: Key) -> bytes | None:
        """Return the record, unless it has expired."""
        if key not in self._records:
            self._read_records([key])
        return self._records[key]

    def put_once(self, op: Once) -> bytes | None:
        """Write where nothing is; answer what was there."""
        stored = self.read(op.key)
        if stored is None:
            self.put(op)
            self.decided.add(op.key.run)
        return stored

    def put(self, op: Once | Put) -> None:
        """Write, whatever was there."""
        if type(op.value) is not bytes:
            refuse("record's value", op.value)
        expires = None if op.ttl is None else self.now + op.ttl.total_seconds()
        self._records[op.key] = op.value
        self._written[op.key] = (op.value, expires)

    def drop(self, key: Key) -> None:
        """Forget a record."""
        self._records[key] = None
        self._written.pop(key, None)
        self._dropped.add(key)

    def open(self, op: Open) -> None:
        """Make a barrier where none is."""
        if self._barrier(op.key) is None:
            slots = self._barriers[op.key] = Slots(op.size, op.max_failed, op.fast)
            slots.changed = True

    def arrive(self, key: Key, slot: int, failed: int) -> Arrival | None:
        """Mark a slot of a barrier, if there is one."""
        slots = self._barrier(key)
        return None if slots is None else slots.arrive(slot, failed)

    def _barrier(self, key: Key) -> Slots | None:
        if key not in self._barriers:
            self._read_barriers([key])
        return self._barriers[key]

    # Messages and flags.

    def publish(self, parcels: Iterable[Parcel]) -> None:
        """Queue parcels, or park those with a due time; ids that are there already are left as they are (T10)."""
        for parcel in parcels:
            due = None if parcel.due is None else parcel.due.timestamp()
            if due is None or due < self.now + SOON:
                self.ready += 1
            else:
                self.later = True
            suspect = parcel.suspect or due is not None
            if type(parcel.body) is not bytes or type(parcel.id) is not str:
                refuse("parcel", parcel)
            self._parcels.append((parcel.id, lane_name(parcel.lane), int(due is not None), parcel.body, due, suspect))

    def flag(self, op: Flag) -> None:
        """Note a cancelled scope."""
        self._flags.append((op.run, op.segment, op.first, op.last, self.now))

    def bury(self, letter: DeadLetter) -> None:
        """Keep a dead letter, unless one of its id is there (X2)."""
        about = (letter.lane.queue, text(letter.task), text(letter.error.kind))
        blob(letter.body)
        self._letters.append((text(letter.id), micros(letter.at), *about, pack(letter)))

    def let_go(self, owner: str) -> None:
        """Release an owner's locks."""
        self._released.add(text(owner))

    def holds(self, delivery: Delivery) -> bool:
        """Say whether a delivery is still its worker's. A lease that ran out, but that nobody noticed, still holds."""
        return self._row(delivery) is not None

    def _row(self, delivery: Delivery) -> int | None:
        seq, token = self._seats.get(delivery.receipt) or seat(delivery.receipt)
        if seq not in self._held:
            self._read_held([seq])
        return seq if token > 0 and self._held[seq] == token else None

    def forget(self, delivery: Delivery) -> None:
        """Acknowledge a held message."""
        if (row := self._row(delivery)) is not None:
            self._held[row] = None
            self._acked.append(row)

    # Programs.

    def settle(self, entry: Entry) -> Reply:
        """Carry out one entry."""
        hit("before_settle")
        if entry.delivery is not None and not self.holds(entry.delivery):
            return Reply(lost=True)
        conflicts = carry_out(entry.program, self._step)
        if not conflicts:
            if entry.delivery is not None:
                self.forget(entry.delivery)
            if entry.settlement is not None and entry.settlement.release:
                self.let_go(entry.settlement.release)
        return Reply(conflicts)

    def _step(self, op: Op) -> Any:
        answer = self._apply(op)
        hit("in_settle")
        return answer

    def _apply(self, op: Op) -> Any:
        match op:
            case Once():
                return self.put_once(op)
            case Guard():
                return any(self.read(key) is not None for key in op.keys)
            case Arrive():
                return self.arrive(op.key, op.slot, op.failed)
            case Publish():
                self.publish(op.parcels)
            case Put():
                self.put(op)
            case Open():
                self.open(op)
            case Retry():
                if self.read(op.key) is None:
                    self.put(Put(op.key, MARK, op.ttl))
                    self.publish((op.parcel,))
            case Drop():
                self.drop(op.key)
            case Flag():
                self.flag(op)
            case Bury():
                self.bury(op.letter)
            case Do():
                raise TypeError("walk opens branches itself")
        return None

    # Writing.

    def flush(self) -> None:
        """Write what is owed, so that statements after this see it; then nothing is."""
        database = self.database
        if self._dropped:
            database.change(
                "DELETE FROM {record} WHERE key IN (SELECT value FROM json_each(?))", array(map(flat, self._dropped))
            )
        database.insert(
            "INSERT INTO {record} (key, value, expires, made)",
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires",
            self._record_rows(),
        )
        database.insert(
            "INSERT INTO {barrier} (key, size, max_failed, fast, failed, arrived)",
            "ON CONFLICT (key) DO UPDATE SET failed = excluded.failed, arrived = excluded.arrived",
            self._barrier_rows(),
        )
        database.insert(
            "INSERT INTO {message} (id, lane, state, body, due, suspect)",
            "ON CONFLICT (id) DO NOTHING",
            self._parcels,
        )
        database.insert("INSERT INTO {flag} (run, segment, first, last, at)", "", self._flags)
        database.insert(
            "INSERT INTO {letter} (id, at, queue, task, kind, content)", "ON CONFLICT (id) DO NOTHING", self._letters
        )
        if self._released:
            release(database, self._released)
        # Last, so that a program which publishes the id it settles changes nothing, as everywhere (T10).
        if self._acked:
            sql = "DELETE FROM {message} WHERE seq IN (SELECT value FROM json_each(?))"
            database.change(sql, array(self._acked))
        for owed in (
            self._dropped,
            self._written,
            self._parcels,
            self._flags,
            self._letters,
            self._released,
            self._acked,
        ):
            owed.clear()

    def _barrier_rows(self) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = []
        for key, slots in self._barriers.items():
            if slots is not None and slots.changed:
                rows.append(slots.row(flat(key)))
                slots.changed = False
        return rows

    def _record_rows(self) -> list[tuple[object, ...]]:
        """Number new runs, so that they can be listed by age."""
        rows: list[tuple[object, ...]] = []
        made = 0
        for key, (value, expires) in self._written.items():
            number = None
            if key[1] == RUN:
                if not made:
                    made = self.database.rows("SELECT coalesce(max(made), 0) FROM {record} WHERE made IS NOT NULL")[0][
                        0
                    ]
                number = made = made + 1
            rows.append((flat(key), value, expires, number))
        return rows
