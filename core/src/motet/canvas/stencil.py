"""The one message of a call that nothing decorates, written without making a plan.

Such calls of one task differ in their runs and arguments only. What is the same in all of them is written once: to
compile every call of a bulk took 5 of its 12 us.
"""

from __future__ import annotations

import msgspec

from motet.canvas.compile import Compiled
from motet.canvas.plan import Leaf, Profile
from motet.canvas.records import parcel_id
from motet.message import VERSION, Message, Order, Parcel, pack
from motet.options import Lane

__all__ = ["Stencil"]

CUT = b"\xc1" * 9  # neither msgpack nor UTF-8, and longer than any number: it stands nowhere else in a page


class Stencil(msgspec.Struct, frozen=True):
    """The page of such a call but for its arguments, and the lane that its message takes."""

    profile: Profile
    lane: Lane
    before: bytes
    after: bytes

    @classmethod
    def of(cls, compiled: Compiled) -> Stencil | None:
        """Cut the arguments out of a call that was compiled; None when there is more to it than one message at once."""
        profile, page = compiled.plain, compiled.first.page
        if profile is None or profile.delay or page is None:
            return None
        (leaf,) = page.nodes
        assert isinstance(leaf, Leaf)
        hollow = msgspec.structs.replace(leaf, call=msgspec.Raw(CUT))
        before, _, after = pack(msgspec.structs.replace(page, nodes=(hollow,))).partition(CUT)
        return cls(profile, profile.lane, before, after)

    def parcel(self, run: str, call: bytes) -> Parcel:
        """The message of a run with these arguments: what `advance.called` makes of its plan."""
        message = Message(VERSION, Order.RUN, run, "", 0, 1, None, None, self.before + call + self.after)
        return Parcel(parcel_id(message), self.lane, pack(message))
