"""The message table in motion: what is ready, who holds it, what time makes of it. The caller has the transaction."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta

import attrs

from motet.options import Lane
from motet.ports import Delivery, QueueInfo
from motet_sqlite.database import Database, array
from motet_sqlite.ledger import seat
from motet_sqlite.uptime import boot, uptime
from motet_sqlite.values import lane_name, lane_of

__all__ = [
    "Agenda",
    "agenda",
    "cancel",
    "find",
    "move",
    "pause",
    "queues",
    "release",
    "renew",
    "strike",
    "take",
    "turn",
    "waiting",
]

SLICE = 500
"""Messages that one transaction promotes, or takes back: 1 to 2 ms."""
PROMOTE = (
    "UPDATE {message} SET state = 0, due = NULL"
    " WHERE seq IN (SELECT seq FROM {message} WHERE state = 1 AND due <= ? ORDER BY due LIMIT ?)"
)
REAP = (
    "UPDATE {message} SET state = 0, token = NULL, suspect = 1, deliveries = deliveries + 1"
    " WHERE seq IN (SELECT seq FROM {message} WHERE state = 2 AND "
)
LAPSED = REAP + "boot = ? AND lease <= ? ORDER BY lease LIMIT ?)"
EARLIER = REAP + "boot < ? LIMIT ?)"
LATER = REAP + "boot > ? LIMIT ?)"
LOOKED_AT = 64
"""Messages of one run that `find` looks at: a held one is among the oldest."""
COUNTS = (
    "SELECT lane, count(*) FROM {message} WHERE state = 0 GROUP BY lane",
    "SELECT lane, count(*) FROM {message} WHERE state = 2 GROUP BY lane",
    "SELECT lane, count(*) FROM {message} WHERE state = 1 GROUP BY lane",
)
"""Ready, held, parked: each by an index of its own."""


@attrs.frozen
class Agenda:
    """When time alone will make work ready: the next due time (wall), and the next end of a lease (uptime)."""

    due: float | None
    lease: float | None

    def arrived(self, now: float) -> bool:
        """Say whether there is anything for `turn` to do."""
        return (self.due is not None and self.due <= now) or (self.lease is not None and self.lease <= uptime())

    def left(self, now: float) -> float:
        """Return the seconds until there is."""
        left = float("inf") if self.due is None else self.due - now
        return max(0.0, left if self.lease is None else min(left, self.lease - uptime()))


def agenda(database: Database) -> Agenda:
    """Read the agenda: four seeks, 10 us. A lease of another start of the machine is over."""
    due, lease, before, behind = database.rows(
        "SELECT (SELECT min(due) FROM {message} WHERE state = 1),"
        " (SELECT min(lease) FROM {message} WHERE state = 2 AND boot = ?),"
        " EXISTS (SELECT 1 FROM {message} WHERE state = 2 AND boot < ?),"
        " EXISTS (SELECT 1 FROM {message} WHERE state = 2 AND boot > ?)",
        boot(),
        boot(),
        boot(),
    )[0]
    return Agenda(due, 0.0 if before or behind else lease)


def waiting(database: Database, lanes: Sequence[Lane], *, paused: bool) -> list[Lane]:
    """Return those of the lanes that have something to deliver, in their order; `paused` ones too."""
    stopped: set[str] = set() if paused else {queue for (queue,) in database.rows("SELECT queue FROM {paused}")}
    rows = database.rows(
        "SELECT value FROM json_each(?) AS wanted"
        " WHERE EXISTS (SELECT 1 FROM {message} WHERE state = 0 AND lane = wanted.value) ORDER BY key",
        array(lane_name(lane) for lane in lanes if lane.queue not in stopped),
    )
    return [lane_of(name) for (name,) in rows]


def turn(database: Database, now: float) -> int:
    """Promote what is due and take back what was held too long; answer how many are ready by that."""
    moved = database.change(PROMOTE, now, SLICE)
    for sql, *values in ((LAPSED, boot(), uptime()), (EARLIER, boot()), (LATER, boot())):
        moved += database.change(sql, *values, SLICE)
    return moved


def take(database: Database, lanes: Sequence[Lane], limit: int, lease: timedelta, *, paused: bool) -> list[Delivery]:
    """Hold at most `limit` messages, lane by lane, the oldest first (T4)."""
    taken: list[Delivery] = []
    token = secrets.randbits(62) + 1
    until = uptime() + lease.total_seconds()
    for lane in waiting(database, lanes, paused=paused):
        name = lane_name(lane)
        rows = database.rows(
            "SELECT seq, id, body, deliveries, suspect FROM {message} WHERE state = 0 AND lane = ?"
            " ORDER BY seq LIMIT ?",
            name,
            limit - len(taken),
        )
        # The same rows again: nobody else writes meanwhile. A tenth faster than by list, or by RETURNING.
        sql = "UPDATE {message} SET state = 2, boot = ?, lease = ?, token = ? WHERE state = 0 AND lane = ? AND seq <= ?"
        database.change(sql, boot(), until, token, name, rows[-1][0])
        for seq, each, body, deliveries, suspect in rows:
            taken.append(Delivery(f"{seq}.{token}", each, lane, body, deliveries + 1, bool(suspect)))
        if len(taken) >= limit:
            break
    return taken


def held(database: Database, receipts: Sequence[str], since: float = -1.0) -> list[int | None]:
    """Return the row of each receipt that is still good, and whose lease ends after `since`."""
    seats = [seat(receipt) for receipt in receipts]
    rows = database.rows(
        "SELECT seq, token, CASE WHEN boot = ? THEN lease ELSE 0 END FROM {message}"
        " WHERE state = 2 AND seq IN (SELECT value FROM json_each(?))",
        boot(),
        array(seq for seq, _ in seats),
    )
    good = {(seq, token) for seq, token, lease in rows if lease > since}
    return [one[0] if one in good else None for one in seats]


def renew(database: Database, receipts: Sequence[str], lease: timedelta) -> list[bool]:
    """Renew leases; one that ran out is lost, even if nobody has noticed."""
    now = uptime()
    rows = held(database, receipts, now)
    if good := [row for row in rows if row is not None]:
        sql = "UPDATE {message} SET lease = ? WHERE seq IN (SELECT value FROM json_each(?))"
        database.change(sql, now + lease.total_seconds(), array(good))
    return [row is not None for row in rows]


def release(database: Database, receipts: Sequence[str], due: float | None, *, untouched: bool = False) -> int:
    """Give messages back uncharged; suspect from now on, unless nobody has seen them. Answers how many."""
    rows = [row for row in held(database, receipts) if row is not None]
    return database.change(
        "UPDATE {message} SET state = ?, due = ?, token = NULL, suspect = max(suspect, ?)"
        " WHERE seq IN (SELECT value FROM json_each(?))",
        int(due is not None),
        due,
        not untouched,
        array(rows),
    )


def strike(database: Database, receipt: str) -> int:
    """Count one crash more, and answer how many; 0 when the message is not ours any more."""
    seq, token = seat(receipt)
    rows = database.rows(
        "UPDATE {message} SET strikes = strikes + 1 WHERE seq = ? AND state = 2 AND token = ? RETURNING strikes",
        seq,
        token,
    )
    return int(rows[0][0]) if rows else 0


def cancel(database: Database, ids: Sequence[str]) -> list[bool]:
    """Take parked messages back."""
    sql = "DELETE FROM {message} WHERE state = 1 AND id IN (SELECT value FROM json_each(?)) RETURNING id"
    gone = {name for (name,) in database.rows(sql, array(ids))}
    return [name in gone for name in ids]


def find(database: Database, run: str) -> str | None:
    """Say where messages of a run are: held before queued, queued before parked."""
    if ":" in run:
        return None
    rows = database.rows(
        "SELECT state FROM {message} WHERE id = ? OR (id >= ? AND id < ?) LIMIT ?", run, f"{run}:", f"{run};", LOOKED_AT
    )
    states = {state for (state,) in rows}
    return next((word for state, word in ((2, "held"), (0, "queued"), (1, "parked")) if state in states), None)


def pause(database: Database, queue: str, *, paused: bool) -> None:
    """Stop a queue, or let it go on."""
    if paused:
        database.change("INSERT OR IGNORE INTO {paused} (queue) VALUES (?)", queue)
    else:
        database.change("DELETE FROM {paused} WHERE queue = ?", queue)


def move(database: Database, source: str, target: str, limit: int) -> int:
    """Bring ready messages into the same lanes of another queue, the oldest first; they keep their age."""
    return database.change(
        "UPDATE {message} SET lane = ? || substr(lane, ?) WHERE seq IN (SELECT seq FROM {message}"
        " WHERE state = 0 AND lane >= ? AND lane < ? ORDER BY seq LIMIT ?)",
        target,
        len(source) + 1,
        f"{source}:",
        f"{source};",
        limit,
    )


def queues(database: Database) -> list[QueueInfo]:
    """Count every queue's messages: an index of its own for each state, 12 to 36 ms for 100,000."""
    counts: dict[str, list[int]] = {}
    stopped = {queue for (queue,) in database.rows("SELECT queue FROM {paused}")}
    for queue in stopped:
        counts[queue] = [0, 0, 0]
    for position, sql in enumerate(COUNTS):
        for name, count in database.rows(sql):
            counts.setdefault(lane_of(name).queue, [0, 0, 0])[position] += count
    return [
        QueueInfo(queue, ready, held, parked, queue in stopped)
        for queue, (ready, held, parked) in sorted(counts.items())
    ]
