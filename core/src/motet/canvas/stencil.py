"""The one message of a call that nothing decorates, written without making a plan.

Such calls of one task differ in their runs and arguments only. What is the same in all of them is written once: to
compile every call of a bulk took 5 of its 12 us, and to write each message as a whole one more.
"""

from __future__ import annotations

import msgspec

from motet.canvas.compile import Compiled
from motet.canvas.plan import Leaf, Profile
from motet.canvas.records import parcel_id
from motet.message import VERSION, Message, Order, Parcel, pack
from motet.options import Lane

__all__ = ["Stencil"]

RUN = "the run"
CUT = b"\xc1" * 9  # neither msgpack nor UTF-8, and longer than any number: it stands nowhere else in a page


class Stencil(msgspec.Struct, frozen=True):
    """The message of such a call, but for its run and its arguments, and the lane that it takes."""

    profile: Profile
    lane: Lane
    name: str
    """What follows the run in the parcel's id."""
    head: bytes
    middle: bytes
    tail: bytes
    """Of the message: before the run, between it and the page, after the page."""
    before: bytes
    after: bytes
    """Of the page: around the arguments."""

    @classmethod
    def of(cls, compiled: Compiled) -> Stencil | None:
        """Cut run and arguments out of a call that was compiled; None when it is more than one message at once."""
        profile, page = compiled.plain, compiled.first.page
        if profile is None or profile.delay or page is None:
            return None
        (leaf,) = page.nodes
        assert isinstance(leaf, Leaf)
        hollow = msgspec.structs.replace(leaf, call=msgspec.Raw(CUT))
        before, _, after = pack(msgspec.structs.replace(page, nodes=(hollow,))).partition(CUT)
        message = Message(VERSION, Order.RUN, RUN, "", 0, 1, None, None, CUT)
        head, _, rest = pack(message).partition(pack(RUN))
        middle, _, tail = rest.partition(pack(CUT))
        return cls(profile, profile.lane, parcel_id(message).removeprefix(RUN), head, middle, tail, before, after)

    def parcel(self, run: str, call: bytes) -> Parcel:
        """The message of a run with these arguments: what `advance.called` makes of its plan."""
        page = pack(self.before + call + self.after)
        return Parcel(run + self.name, self.lane, self.head + pack(run) + self.middle + page + self.tail)
