"""Terms to plans: a pre-order walk that yields one page at a time, so that a wide group is never held twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Protocol

import msgspec

from motet.canvas import plan
from motet.canvas.plan import FANOUT, PAGE_BYTES, Callback, Header, Node, Page, Profile
from motet.canvas.terms import PLAIN, Chain, Group, Recovered, Scope, Signature, Term
from motet.errors import TooLarge, UsageError
from motet.identity import derive
from motet.message import Place, pack

__all__ = ["Bound", "Catalog", "Compiled", "CompiledPage", "Origin", "compile_term"]

DEPTH = 64
NODES = 1_000_000
INLINE = 16 * 1024
CALLBACK_BYTES = 128 * 1024
FORMS = {"call": 0, "map": 1, "starmap": 2}


class Bound(msgspec.Struct, frozen=True, gc=False):
    """A signature seen by its task: how it runs, its arguments by name, and the parameter that takes the input."""

    profile: Profile
    call: bytes
    feed: str | None


class Catalog(Protocol):
    """What knows the tasks: the app's registry."""

    def bind(self, signature: Signature[Any, Any], fed: bool) -> Bound:
        """Check a signature against its task; `fed` says that it has an input.

        Raises:
            UsageError: The task is unknown, or its arguments are missing, too many, or cannot travel.
        """
        ...

    def ttl(self, term: Term[Any, Any], default: float) -> float:
        """Say how many seconds the result of a term is kept when nothing else is asked for."""
        ...


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Whose plan it is, and what it hangs from."""

    run: str
    segment: str = ""
    parent: Place | None = None
    kept: bytes | None = None
    depth: int = 0
    kin: str = ""
    fed: bool = False
    discard: bool = False
    given: bool = False


class CompiledPage(msgspec.Struct, frozen=True):
    """One page, encoded, and the values too large for it, by name. The first is there unencoded as well."""

    body: bytes
    values: tuple[tuple[str, bytes], ...] = ()
    page: Page | None = None


class Compiled(msgspec.Struct, frozen=True):
    """A plan about to be written. `pages` is read once."""

    origin: Origin
    header: Header
    first: CompiledPage
    rest: Iterator[CompiledPage]
    plain: Profile | None
    """Set when the plan is one undecorated call with small arguments: no record is needed before its outcome."""


def compile_term(term: Term[Any, Any], origin: Origin, catalog: Catalog, *, ttl: float, name: str = "") -> Compiled:
    """Compile a term.

    Raises:
        UsageError: A call in it is wrong, or it is nested or large beyond the limits. Nothing has been sent.
    """
    compiler = _Compiler(origin, catalog)
    size = compiler.span(term)
    if size > NODES:
        raise TooLarge("the term", size, NODES, "nodes")
    header = Header(
        size,
        compiler.leaves,
        name or ("" if isinstance(term, Signature) else label(term)),
        plan.brief(ttl),
        origin.parent,
        origin.kept,
        origin.depth,
        origin.kin,
        origin.discard,
        origin.given,
    )
    if isinstance(term, Signature):
        pages: Iterator[CompiledPage] = iter(())
        first = compiler.page(header, [compiler.leaf(term, -1, 0, origin.fed, False)])
    else:
        pages = compiler.pages(header, term)
        first = next(pages)
    return Compiled(origin, header, first, pages, compiler.plain(term, first))


def label(term: Term[Any, Any]) -> str:
    """Name a term in listings."""
    match term:
        case Signature(task=task):
            return task
        case Group(members=members):
            return f"group of {len(members)}"
        case Chain(steps=steps):
            return f"chain of {len(steps)}"
        case Recovered(inner=inner):
            return label(inner)
        case _:
            return type(term).__name__


class _Compiler:
    """One walk over one term."""

    def __init__(self, origin: Origin, catalog: Catalog) -> None:
        self.origin = origin
        self.catalog = catalog
        self.spans: dict[int, int] = {}
        self.leaves = 0
        self.index = 0
        self.profiles: dict[int, int] = {}
        self.shared: list[Profile] = []
        self.values: list[tuple[str, bytes]] = []

    def span(self, term: Term[Any, Any], depth: int = 0) -> int:
        """Count the nodes of a term, parts of wide groups included, and the leaves on the way."""
        if depth > DEPTH:
            raise UsageError(f"nested deeper than {DEPTH}: compose flat chains and groups")
        if isinstance(term, Signature):
            self.leaves += 1
            return 1
        children, name = term.children, id(term)
        count = 1 + sum(self.span(child, depth + 1) for child in children)
        count += parts(len(children)) if isinstance(term, Group) else 0
        self.spans[name] = count
        return count

    def pages(self, header: Header, term: Term[Any, Any]) -> Iterator[CompiledPage]:
        """Cut the walk into pages."""
        nodes: list[Node] = []
        first: Header | None = header
        for node in self.walk(term, -1, 0, self.origin.fed, False):
            nodes.append(node)
            if len(nodes) == FANOUT:
                yield self.page(first, nodes)
                nodes, first = [], None
        if nodes:
            yield self.page(first, nodes)

    def page(self, header: Header | None, nodes: list[Node]) -> CompiledPage:
        """Encode a page; its largest calls are kept apart until it fits."""
        base = self.index - len(nodes)
        page = Page(header, tuple(self.shared), tuple(nodes))
        body = pack(page)
        while len(body) > PAGE_BYTES:
            sizes = [len(node.call) if isinstance(node, plan.Leaf) and not node.stored else 0 for node in nodes]
            largest = max(range(len(nodes)), key=sizes.__getitem__)
            leaf = nodes[largest]
            if not isinstance(leaf, plan.Leaf) or not sizes[largest]:
                raise TooLarge("a page of the plan", len(body), PAGE_BYTES)
            nodes[largest] = self.apart(leaf, base + largest)
            page = Page(header, tuple(self.shared), tuple(nodes))
            body = pack(page)
        values = tuple(self.values)
        self.values, self.shared, self.profiles = [], [], {}
        return CompiledPage(body, values, page if header is not None else None)

    def apart(self, leaf: plan.Leaf, index: int) -> plan.Leaf:
        """Keep a leaf's arguments as a value of their own."""
        name = f"v.{self.origin.segment}.{index}"
        self.values.append((name, bytes(leaf.call)))
        return msgspec.structs.replace(leaf, call=msgspec.Raw(pack(name)), stored=True)

    def walk(self, term: Term[Any, Any], up: int, slot: int, fed: bool, drop: bool) -> Iterator[Node]:
        """Yield the nodes of a term in pre-order."""
        here = self.index
        match term:
            case Signature():
                yield self.leaf(term, up, slot, fed and not drop, drop)
                return
            case Chain():
                self.index += 1
                yield plan.Chain(up, slot, self.spans[id(term)], len(term.steps), drop, self.scope(term.scope, here))
                fed = fed and not drop
                for number, step in enumerate(term.steps):
                    yield from self.walk(step, here, number, fed, number in term.drops)
                    fed = hands_on(step, fed and number not in term.drops)
            case Group():
                self.index += 1
                yield self.group(term, up, slot, drop, here)
                yield from self.members(term.members, here, 0, fed and not drop, term)
            case Recovered():
                self.index += 1
                yield plan.Recover(up, slot, self.spans[id(term)], drop, self.scope(term.scope, here))
                yield from self.walk(term.inner, here, 0, fed and not drop, False)
                yield from self.walk(term.handler, here, 1, True, False)
            case _:
                raise UsageError(f"{term!r} is no term that can be submitted")

    def leaf(self, term: Signature[Any, Any], up: int, slot: int, fed: bool, drop: bool) -> Node:
        """Bind one call; its index is taken before its scope derives ids from it."""
        here = self.index
        self.index += 1
        bound = self.catalog.bind(term, fed)
        number = self.profiles.get(id(bound.profile))
        if number is None:
            number = self.profiles[id(bound.profile)] = len(self.shared)
            self.shared.append(bound.profile)
        scope = self.scope(term.scope, here)
        leaf = plan.Leaf(up, slot, number, msgspec.Raw(bound.call), bound.feed, FORMS[term.form], False, drop, scope)
        return self.apart(leaf, here) if len(bound.call) > INLINE else leaf

    def group(self, term: Group[Any, Any], up: int, slot: int, drop: bool, here: int) -> plan.Group:
        """Resolve a group's policy to the one number that a barrier knows."""
        members = len(term.members)
        allowed = members if term.rule == "collect" else 0
        if term.min_success is not None:
            allowed = members - term.min_success
        return plan.Group(
            up,
            slot,
            self.spans[id(term)],
            min(members, -(-members // capacity(members))) if members else 0,
            members,
            allowed,
            term.rule == "fail_fast",
            term.rule == "collect" or term.min_success is not None,
            term.gap,
            drop,
            self.scope(term.scope, here),
        )

    def members(
        self, members: tuple[Term[Any, Any], ...], up: int, first: int, fed: bool, whole: Group[Any, Any]
    ) -> Iterator[Node]:
        """Yield members, under parts when there are more than 256."""
        share = capacity(len(members))
        if share == 1:
            for slot, member in enumerate(members):
                yield from self.walk(member, up, slot, fed, False)
            return
        fast = whole.rule == "fail_fast" and whole.min_success is None
        for slot, start in enumerate(range(0, len(members), share)):
            below = members[start : start + share]
            here = self.index
            self.index += 1
            size = 1 + parts(len(below)) + sum(self.spans.get(id(member), 1) for member in below)
            count = -(-len(below) // capacity(len(below)))
            yield plan.Part(up, slot, size, count, first + start, fast, whole.gap)
            yield from self.members(below, here, first + start, fed, whole)

    def scope(self, scope: Scope, here: int) -> plan.Scope | None:
        """Compile callbacks to runs of their own with derived ids."""
        if scope is PLAIN or scope == PLAIN:
            return None
        return plan.Scope(
            tuple(self.callback(each, here, f"s{number}") for number, each in enumerate(scope.on_success)),
            tuple(self.callback(each, here, f"f{number}") for number, each in enumerate(scope.on_failure)),
            scope.within,
        )

    def callback(self, term: Term[Any, Any], here: int, role: str) -> Callback:
        run = derive(self.origin.run, self.origin.segment, here, role)
        compiled = compile_term(term, Origin(run=run, kin=self.origin.run, fed=True), self.catalog, ttl=3600.0)
        pages = [compiled.first, *compiled.rest]
        size = sum(len(page.body) for page in pages)
        if size > CALLBACK_BYTES or any(page.values for page in pages):
            raise TooLarge("a callback", size, CALLBACK_BYTES)
        return Callback(run, tuple(page.body for page in pages), compiled.plain)

    def plain(self, term: Term[Any, Any], first: CompiledPage) -> Profile | None:
        """Return the profile when the whole plan is one call that needs no record before its outcome."""
        if not isinstance(term, Signature) or first.page is None or first.values or self.origin.parent:
            return None
        return first.page.profiles[0] if term.scope is PLAIN or term.scope == PLAIN else None


def hands_on(term: Term[Any, Any], fed: bool) -> bool:
    """Say whether what comes after a term may have an input: an empty chain hands on what it got, be it nothing."""
    match term:
        case Chain():
            for number, step in enumerate(term.steps):
                fed = hands_on(step, fed and number not in term.drops)
            return fed
        case Recovered():
            # Which of the two ends it, only the run tells.
            return hands_on(term.inner, fed) or hands_on(term.handler, True)
        case _:
            return True


def capacity(members: int) -> int:
    """How many members each direct child of a group of this width holds."""
    share = 1
    while -(-members // share) > FANOUT:
        share *= FANOUT
    return share


def parts(members: int) -> int:
    """Count the parts below a group of this width. The last one holds fewer members, and so perhaps none of its own."""
    share = capacity(members)
    if share == 1:
        return 0
    full, rest = divmod(members, share)
    return full * (1 + parts(share)) + (1 + parts(rest) if rest else 0)


def expiry(moment: datetime | None) -> float | None:
    """Write an instant for the wire."""
    return None if moment is None else moment.timestamp()
