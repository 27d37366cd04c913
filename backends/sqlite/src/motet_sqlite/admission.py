"""Publishing subject to a key: clauses T19 to T23, in the transaction of the look at the key."""

from __future__ import annotations

from motet.message import Key
from motet.ports import Admission, Rule
from motet.program import Once
from motet_sqlite.ledger import Ledger
from motet_sqlite.values import blob, refuse, text

__all__ = ["admit"]

READY, PARKED = 0, 1
REPLACES: dict[Rule, tuple[int, ...]] = {Rule.FIRST: (), Rule.DEBOUNCE: (PARKED,), Rule.KEEP_LAST: (READY, PARKED)}
"""The states in which a message loses its place."""


def admit(ledger: Ledger, admission: Admission) -> str:
    """Publish a parcel, or not; return the id of the one that stands for the key."""
    _check(admission)
    name = admission.parcel.id
    standing = _standing(ledger, admission.key)
    if standing == name:
        return name
    if ledger.read(_outcome(name, admission)) is not None:
        # It lost its place before, or was decided: a repetition of that call must not take another's place.
        return name if standing is None else standing
    if standing is not None:
        if admission.rule is Rule.FIRST:
            return standing
        _replace(ledger, standing, admission)
    ledger.publish([admission.parcel])
    ledger.database.change(
        "INSERT OR REPLACE INTO {admission} (key, parcel, expires) VALUES (?, ?, ?)",
        admission.key,
        name,
        ledger.now + admission.window.total_seconds(),
    )
    # The next one of this transaction looks for this one in the table.
    ledger.flush()
    return name


def _check(admission: Admission) -> None:
    """Refuse what cannot be kept.

    Raises:
        UsageError: A field has another type.
    """
    text(admission.key)
    text(admission.outcome)
    blob(admission.replaced)
    if admission.rule not in REPLACES:
        refuse("admission", admission)


def _standing(ledger: Ledger, key: str) -> str | None:
    rows = ledger.database.rows("SELECT parcel FROM {admission} WHERE key = ? AND expires > ?", key, ledger.now)
    return rows[0][0] if rows else None


def _replace(ledger: Ledger, standing: str, admission: Admission) -> None:
    """Take a parcel's place, if it waits as the rule says, and let its run know (T23)."""
    states = REPLACES[admission.rule]
    marks = ", ".join("?" * len(states))
    sql = f"DELETE FROM {{message}} WHERE id = ? AND state IN ({marks})"  # noqa: S608
    if ledger.database.change(sql, standing, *states):
        ledger.put_once(Once(_outcome(standing, admission), admission.replaced, ends=True))


def _outcome(name: str, admission: Admission) -> Key:
    return Key(text(name).partition(":")[0], admission.outcome)
