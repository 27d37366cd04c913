"""What a channel holds: deliveries that are neither acknowledged nor given back, in the order in which they came."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from motet.errors import LeaseLost
from motet_rabbitmq.amqp import END, METHOD

__all__ = ["Held"]

SETTLE = struct.Struct(">BHIHHQBB")
"""A whole frame of basic.ack or basic.nack."""
BASIC, ACK, NACK = 60, 80, 120
SIZE = 13
MULTIPLE, REQUEUE = 1, 2


class Held:
    """The tags of one channel."""

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.tags: dict[int, None] = {}

    def acks(self, tags: Iterable[int]) -> bytes:
        """Let go of these, and return what tells the broker to forget them.

        Raises:
            LeaseLost: One of them is not held; nothing was done.
        """
        return self._settle(tags, ACK, 0)

    def nacks(self, tags: Iterable[int], *, requeue: bool) -> bytes:
        """Let go of these, and return what tells the broker to take them back.

        Raises:
            LeaseLost: One of them is not held; nothing was done.
        """
        return self._settle(tags, NACK, REQUEUE if requeue else 0)

    def _settle(self, tags: Iterable[int], verb: int, bits: int) -> bytes:
        wanted, held = set(tags), self.tags
        if not wanted <= held.keys():
            raise LeaseLost(f"{min(wanted - held.keys())} of channel {self.channel}")
        # `multiple` settles whatever is older too, so it is for those before which nothing else is held.
        last = count = 0
        for tag in held:
            if tag not in wanted:
                break
            last, count = tag, count + 1
        for tag in wanted:
            del held[tag]
        made = [] if count < 2 else [self._frame(verb, last, bits | MULTIPLE)]
        made += [self._frame(verb, tag, bits) for tag in sorted(wanted) if count < 2 or tag > last]
        return b"".join(made)

    def _frame(self, verb: int, tag: int, bits: int) -> bytes:
        return SETTLE.pack(METHOD, self.channel, SIZE, BASIC, verb, tag, bits, END)
