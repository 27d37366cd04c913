"""The flat form of a term: nodes in the order of a pre-order walk, 256 to a page.

A node's children follow it. `span` counts a node and all below it, so that the next sibling of node i is
i + span(i), and page i // 256 holds node i. A group wider than 256 gets `Part` nodes between itself and its members,
so that no barrier has more than 256 slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from motet.errors import DecodeError, MotetError
from motet.message import Key, Place
from motet.options import Lane

__all__ = [
    "FANOUT",
    "Callback",
    "Chain",
    "Group",
    "Header",
    "Leaf",
    "Node",
    "Page",
    "PagesNeeded",
    "Part",
    "Plan",
    "Profile",
    "Recover",
    "Scope",
    "brief",
    "read_page",
]

FANOUT = 256
INLINE_NODES = 8
INLINE_BYTES = 2048
PAGE_BYTES = 256 * 1024


def brief(seconds: float) -> float:
    """Write whole seconds as an integer: a message has several, and each takes 1 to 3 bytes in place of 9."""
    return int(seconds) if seconds == int(seconds) else seconds


class Profile(msgspec.Struct, frozen=True, array_like=True):
    """What an engine must know of a leaf without its task: nobody asks the registry later. Seconds are floats."""

    task: str
    queue: str
    size: str
    priority: int
    timeout: float | None = None
    retry: Mapping[str, Any] | None = None
    expires: float | None = None
    delay: float = 0
    ttl: float = 3600
    dlq: bool = False
    max_deliveries: int = 3
    at_most_once: bool = False
    headers: Mapping[str, str] | None = None

    @property
    def lane(self) -> Lane:
        """Where messages of the leaf go."""
        return Lane(self.queue, self.size, self.priority)


class Callback(msgspec.Struct, frozen=True, array_like=True):
    """A run of its own, started when a scope ends; its plan is kept with the scope."""

    run: str
    pages: tuple[bytes, ...]
    plain: Profile | None = None


class Scope(msgspec.Struct, frozen=True, array_like=True):
    """What decorates a node: callbacks by outcome, and a time limit in seconds."""

    on_success: tuple[Callback, ...] = ()
    on_failure: tuple[Callback, ...] = ()
    within: float | None = None


class Leaf(msgspec.Struct, frozen=True, array_like=True, tag="l"):
    """One call. `call` holds the arguments by name; `feed` names the parameter that takes the input, if any does.

    `stored` says that `call` is the name of a value kept apart, because it is large.
    """

    up: int
    slot: int
    profile: int
    call: msgspec.Raw
    feed: str | None = None
    form: int = 0
    stored: bool = False
    drop: bool = False
    scope: Scope | None = None


class Chain(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """Steps in order, each fed by the one before."""

    up: int
    slot: int
    span: int
    count: int
    drop: bool = False
    scope: Scope | None = None


class Group(msgspec.Struct, frozen=True, array_like=True, tag="g"):
    """Members at once, all fed alike. `members` counts them, `count` the direct children, which may be parts."""

    up: int
    slot: int
    span: int
    count: int
    members: int
    max_failed: int = 0
    fast: bool = False
    collect: bool = False
    stagger: float = 0.0
    drop: bool = False
    scope: Scope | None = None


class Part(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """At most 256 members, or parts, of a wide group; `first` is the position of its first member in the group."""

    up: int
    slot: int
    span: int
    count: int
    first: int
    fast: bool = False
    stagger: float = 0.0
    drop: bool = False
    scope: Scope | None = None


class Recover(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """Two children: a term, and the handler that takes over when it fails."""

    up: int
    slot: int
    span: int
    drop: bool = False
    scope: Scope | None = None
    count: int = 2


Node: TypeAlias = Leaf | Chain | Group | Part | Recover


def span(node: Node) -> int:
    """Count a node and all below it."""
    return 1 if isinstance(node, Leaf) else node.span


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What is true of a whole segment; it stands on its first page.

    `parent` is the node whose value a splice becomes; `kept` is that node's own value when it only waits.
    `kin` is the run whose records this one's input may refer to; `discard` says that nobody wants the value;
    `given` that the user chose the id, or that a single call was replaced: the run has more records than one.
    A call has the name of its task, which is not written twice.
    """

    size: int
    leaves: int
    name: str = ""
    ttl: float = 3600
    parent: Place | None = None
    kept: bytes | None = None
    depth: int = 0
    kin: str = ""
    discard: bool = False
    given: bool = False


class Page(msgspec.Struct, frozen=True, array_like=True):
    """At most 256 nodes, and the profiles that they share."""

    header: Header | None
    profiles: tuple[Profile, ...]
    nodes: tuple[Node, ...]

    @property
    def name(self) -> str:
        """What listings call a run of which this is the first page."""
        return (self.header.name if self.header else "") or self.profiles[0].task


_page = msgspec.msgpack.Decoder(Page)


def read_page(raw: bytes) -> Page:
    """Read a page; plans from the store are validated like messages.

    Raises:
        DecodeError: The bytes are not a page.
    """
    try:
        return _page.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(str(error), raw) from error


def page_key(run: str, segment: str, number: int) -> Key:
    """Where a page of a plan is kept."""
    return Key(run, f"p.{segment}.{number}")


class PagesNeeded(MotetError):
    """Raised when a plan is asked for a page it does not hold: load these, then ask again."""

    def __init__(self, keys: Sequence[tuple[str, int]]) -> None:
        self.keys: tuple[tuple[str, int], ...] = tuple(keys)
        super().__init__(self.keys)

    def __str__(self) -> str:
        return f"pages {self.keys} of the plan are not loaded"


Completion: TypeAlias = tuple[Sequence[Any], Sequence[Any], datetime, datetime | None]
"""What a barrier's completion does when it is well and when it is not, and the time for which that was worked out: a
second, or just one moment in it."""


class Plan:
    """The pages of one run that are at hand. A look at any other raises `PagesNeeded`.

    A plan also keeps what `advance` has worked out of it and would work out again for the next node: `completions` of
    barriers, and the `marks` that stop a scope.
    """

    __slots__ = ("completions", "inline", "marks", "pages", "run", "size")

    def __init__(self, run: str) -> None:
        self.run: str = run
        self.pages: dict[tuple[str, int], Page] = {}
        self.size: int = 1
        """Nodes that are at hand, and one for the plan itself."""
        self.inline: dict[str, bytes] = {}
        self.completions: dict[tuple[Place, int], Completion] = {}
        self.marks: dict[Place, tuple[Key, ...]] = {}

    def add(self, segment: str, number: int, raw: bytes, page: Page | None = None) -> None:
        """Take a page in; a segment of one small page is kept as bytes too, to travel with its messages.

        Whoever has just encoded `raw` gives the `page` that it is.

        Raises:
            DecodeError: The bytes are not a page.
        """
        page = page or read_page(raw)
        if (segment, number) not in self.pages:
            self.size += len(page.nodes)
        self.pages[segment, number] = page
        header = page.header
        if header is None:
            return
        if header.size == 1 or (header.size <= INLINE_NODES and len(raw) <= INLINE_BYTES):
            self.inline[segment] = raw

    def page(self, segment: str, number: int) -> Page:
        """Return a page of a segment.

        Raises:
            PagesNeeded: It is not at hand.
        """
        try:
            return self.pages[segment, number]
        except KeyError:
            raise PagesNeeded([(segment, number)]) from None

    def header(self, segment: str) -> Header:
        """Return what is true of the segment as a whole."""
        header = self.page(segment, 0).header
        if header is None:
            raise DecodeError(f"plan of {self.run} has no header")
        return header

    def node(self, place: Place) -> Node:
        """Return the node at a place."""
        segment, index = place
        number = index // FANOUT
        try:
            return self.pages[segment, number].nodes[index % FANOUT]
        except KeyError:
            raise PagesNeeded([(segment, number)]) from None
        except IndexError:
            raise DecodeError(f"plan of {self.run} has no node {place}") from None

    def profile(self, place: Place, leaf: Leaf) -> Profile:
        """Return the profile of a leaf."""
        return self.page(place.segment, place.number // FANOUT).profiles[leaf.profile]

    def children(self, place: Place, node: Node) -> Iterator[tuple[Place, Node]]:
        """Yield the direct children in order."""
        count = 0 if isinstance(node, Leaf) else node.count
        index = place.number + 1
        for _ in range(count):
            child = Place(place.segment, index)
            below = self.node(child)
            yield child, below
            index += span(below)

    def up(self, place: Place) -> Place | None:
        """Return the node that this one is a child of, across splices; None for the root of the run."""
        above = self.node(place).up
        return Place(place.segment, above) if above >= 0 else self.header(place.segment).parent

    def above(self, place: Place) -> Iterator[Place]:
        """Yield the nodes around this one, inner before outer."""
        outer = self.up(place)
        while outer is not None:
            yield outer
            outer = self.up(outer)

    def before(self, place: Place) -> Iterator[tuple[Place, Place]]:
        """Yield what must have ended before this node could begin: the chain or recovery, and the step; inner first."""
        at: Place | None = place
        while at is not None:
            node, outside = self.node(at), self.up(at)
            if outside is not None and node.slot > 0 and isinstance(outer := self.node(outside), Chain | Recover):
                yield (
                    outside,
                    next(child for child, below in self.children(outside, outer) if below.slot == node.slot - 1),
                )
            at = outside

    def path(self, place: Place) -> tuple[int, ...]:
        """Return the positions from the root of the run, parts of wide groups left out."""
        positions: list[int] = []
        at: Place | None = place
        while at is not None:
            node = self.node(at)
            if node.up >= 0 and not isinstance(node, Part):
                around = self.node(Place(at.segment, node.up))
                positions.append(node.slot + (around.first if isinstance(around, Part) else 0))
            at = self.up(at)
        return tuple(reversed(positions))
