"""Port P on SQLite: a batch is one transaction, together with whatever else is asked at that moment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from motet.ports import Entry, Reply, Settler
from motet_sqlite.ledger import Ledger
from motet_sqlite.request import Step

if TYPE_CHECKING:
    from motet_sqlite.desk import Desk

__all__ = ["SqliteSettler"]


class SqliteSettler:
    """Settles batches, each entry whole or not at all."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def settle(self, entries: Sequence[Entry]) -> list[Reply]:
        """Carry the entries out.

        An entry that cannot be stored is rolled back alone, and raised after the others were committed (P6). Settle
        the rest again to learn their replies: they are lost by then, because they are acknowledged.

        Raises:
            Unavailable: Nothing of the batch was done.
            Rejected: The file refuses to be written, and nothing was done; or one of the entries cannot be stored.
            UsageError: One of the entries is malformed.
        """
        return await self._desk.do_all([_step(entry) for entry in entries])


def _step(entry: Entry) -> Step:
    delivery = entry.delivery
    return Step(
        partial(_settle, entry),
        programs=(entry.program,),
        receipts=() if delivery is None else (delivery.receipt,),
        submits=delivery is None,
    )


def _settle(entry: Entry, ledger: Ledger) -> Reply:
    return ledger.settle(entry)


_: type[Settler] = SqliteSettler
