import dataclasses
import enum
import math
import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, Never, TypeVar
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet import codec
from motet.codec import carry, decode, decoder, encode
from motet.errors import DecodeError, NotSerializable, UsageError


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@dataclasses.dataclass(kw_only=True, frozen=True)
class Order:
    id: uuid.UUID
    price: Decimal
    at: datetime
    points: list[Point]
    by_name: dict[str, Point | None]
    colours: frozenset[Colour] = frozenset()
    span: timedelta = timedelta()


@attrs.frozen
class Owner:
    name: str
    home: Point | None = None


class Packet(msgspec.Struct, frozen=True):
    body: bytes
    owner: Owner


class Tag(pydantic.BaseModel):
    label: str = pydantic.Field(alias="lbl")
    when: datetime
    model_config = pydantic.ConfigDict(populate_by_name=True)


class Page(pydantic.BaseModel):
    url: pydantic.AnyUrl
    tags: list[Tag] = []


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"


@dataclasses.dataclass
class Holder:
    tag: Tag
    callback: Any = None


@dataclasses.dataclass(eq=False)
class Unequal:
    x: float


class Pair(NamedTuple):
    a: int
    b: str


V = TypeVar("V")


class Term(Generic[V]):
    """What the codec expects of a term: two methods, and an equality."""

    def __init__(self, name: str, *args: object) -> None:
        self.name, self.args = name, list(args)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Term) and (self.name, self.args) == (other.name, other.args)

    __hash__ = None  # type: ignore[assignment]

    def to_mapping(self) -> Mapping[str, Any]:
        return {"task": self.name, "args": self.args}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "Term[Any]":
        return Term(mapping["task"], *mapping["args"])


@attrs.frozen
class AttrsTerm:
    """A term that msgspec would take for plain data."""

    name: str

    def to_mapping(self) -> Mapping[str, Any]:
        return {"task": self.name, "args": []}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "AttrsTerm":
        return cls(mapping["task"])


@pytest.fixture
def terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "signature_hook", Term.from_mapping)


def through(value: object, annotation: Any = Any) -> object:
    read = decoder(annotation)
    return read(carry(value, read, "argument 'x'"))


NOW = datetime(2026, 3, 29, 2, 30, tzinfo=timezone(timedelta(hours=2)))
POINTS = [Point(1), Point(2, 3)]
ORDER = Order(
    id=uuid.UUID(int=7), price=Decimal("1.10"), at=NOW, points=POINTS, by_name={"a": POINTS[0], "b": None},
    colours=frozenset({Colour.RED}), span=timedelta(days=400, microseconds=1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (POINTS[0], Point),
        (ORDER, Order),
        (ORDER, Order | None),
        (None, Order | None),
        ([ORDER], list[Order]),
        ({"a": ORDER}, dict[str, Order]),
        (Owner("ann", POINTS[0]), Owner),
        (Packet(b"\x00\xff", Owner("ann")), Packet),
        (Tag(lbl="a", when=NOW), Tag),
        (Page(url=pydantic.AnyUrl("https://example.org/"), tags=[Tag(lbl="a", when=NOW)]), Page),
        ([Tag(lbl="a", when=NOW), None], list[Tag | None]),
        (Holder(Tag(lbl="a", when=NOW)), Holder),
        (Dog(), Cat | Dog),
        ([Dog(), Cat()], list[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]]),
        (Colour.RED, Colour),
        (Level.LOW, Level),
        (Decimal("1.50"), Decimal),
        (NOW, datetime),
        (datetime(2026, 1, 1, 12), datetime),  # noqa: DTZ001 - a naive one is the case
        (NOW, Any),
        (date(2026, 1, 1), date),
        (time(1, 2, 3), time),
        (timedelta(seconds=-1), timedelta),
        (uuid.UUID(int=1), uuid.UUID),
        ({1, 2}, set[int]),
        ((1, "a"), tuple[int, str]),
        (Pair(1, "a"), Pair),
        (5, float),
        (3, int | str),
        (uuid.UUID(int=1), str | uuid.UUID),
        ("plain", str | uuid.UUID),
        (NOW, str | datetime),
        (b"\xff", bytes | str),
        (Owner("ann"), Point | Owner),
        (POINTS[1], Owner | Point | None),
        ({1: "a", None: [b"b"]}, Any),
        (bytearray(b"ab"), Any),
        ({}, object),
        ([1.5, True, None, "é"], list),
        ([1], Sequence[int]),
    ],
)
def test_a_value_comes_back_equal_by_its_annotation(value: object, annotation: Any) -> None:
    assert through(value, annotation) == value


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (POINTS[0], Any),
        (Owner("ann"), Any),
        (Tag(lbl="a", when=NOW), Any),
        ([POINTS[0]], list),
        ({1, 2}, Any),
        (Pair(1, "a"), Any),
        (Decimal(1), Any),
        (uuid.UUID(int=1), Any),
        (Colour.RED, Any),
        ("5", int),
        (True, int),
        (5, bool),
        ({"x": 1}, Point),
        ("00000000-0000-0000-0000-000000000001", uuid.UUID),
        (2**64, int),
        ("\ud800", str),
        (object(), object),
        (lambda: None, Any),
        (int, Any),
        (range(3), Sequence[int]),
        ((n for n in "ab"), Any),
        (ValueError("x"), Any),
        ({math.nan: 1}, Any),
        ({(1, math.nan): 1}, Any),
        ({1: "a", Level.LOW: "b", "red": 1, Colour.RED: 2}, Any),
    ],
)
def test_a_value_that_would_not_come_back_equal_is_refused_by_name(value: object, annotation: Any) -> None:
    with pytest.raises(NotSerializable, match=r"^argument 'x' cannot be sent: "):
        through(value, annotation)


def test_a_tuple_may_come_back_as_a_list_where_nothing_says_tuple() -> None:
    assert through((1, (2, 3))) == [1, [2, 3]]
    assert through((1, 2), list[int]) == [1, 2]


def test_nan_and_classes_without_equality_are_compared_by_their_bytes() -> None:
    assert math.isnan(through([math.nan], list[float])[0])  # type: ignore[index]
    assert through(Unequal(math.nan), Unequal).__class__ is Unequal


def test_an_hour_that_happens_twice_comes_back_as_the_same_instant() -> None:
    twice = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))

    back = through(twice, datetime)

    assert isinstance(back, datetime)
    assert back.timestamp() == twice.timestamp()


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)

    with pytest.raises(NotSerializable, match="contains itself"):
        encode(loop)


def test_a_value_that_nests_too_deep_is_refused_at_submit() -> None:
    deep: list[object] = []
    for _ in range(64):
        deep = [deep]

    with pytest.raises(NotSerializable, match="64 levels"):
        encode(deep)


def test_an_annotation_that_cannot_be_read_back_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cannot be read back"):
        decoder(list[Point | Owner])


@pytest.mark.parametrize("annotation", [Never, object, Any])
def test_an_annotation_that_says_nothing_reads_untyped(annotation: Any) -> None:
    assert decoder(annotation)(encode([1])) == [1]


def test_what_the_default_of_a_result_is_survives_subclasses_of_plain_types() -> None:
    class Safe(str):
        __slots__ = ()

    assert through(Safe("a"), str) == "a"


@pytest.mark.usefixtures("terms")
@pytest.mark.parametrize(
    ("wrap", "annotation"),
    [
        (lambda term: term, Any),
        (lambda term: term, Term),
        (lambda term: term, Term[int]),
        (lambda term: term, Term[int] | None),
        (lambda term: term, Term[int] | AttrsTerm | None),
        (lambda term: [term], list[Term[Any]]),
        (lambda term: {"a": [{"b": term}]}, Any),
        (lambda term: Term("outer", term, [term]), Any),
        (lambda term: Holder(Tag(lbl="a", when=NOW), [term]), Holder),
    ],
)
def test_a_term_survives_at_any_depth_typed_or_not(wrap: Any, annotation: Any) -> None:
    value = wrap(Term("add", 8))

    assert through(value, annotation) == value


@pytest.mark.parametrize("annotation", [AttrsTerm, AttrsTerm | None, list[AttrsTerm]])
def test_a_term_that_looks_like_plain_data_is_still_marked(annotation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "signature_hook", dict)  # as if no canvas had been imported
    value = [AttrsTerm("a")] if annotation == list[AttrsTerm] else AttrsTerm("a")

    assert through(value, annotation) == value
    assert decode(encode(AttrsTerm("a"))) == {"task": "a", "args": []}


@pytest.mark.usefixtures("terms")
def test_a_dataclass_keeps_its_own_field_when_the_term_in_it_is_marked() -> None:
    holder = Holder(Tag(lbl="a", when=NOW), AttrsTerm("b"))

    assert decoder(Holder)(encode(holder)).callback == Term("b")
    assert holder.callback == AttrsTerm("b")


def test_a_foreign_extension_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="extension 5"):
        decode(b"\xd4\x05a", "the message")


@pytest.mark.parametrize("raw", [b"", b"\x01\x02", b"\xa1\xff", b"\x81\x80\x01", b"\xd7\xff" + b"\xff" * 8])
def test_bytes_that_are_not_one_value_are_a_decode_error(raw: bytes) -> None:
    with pytest.raises(DecodeError, match="the value: "):
        decode(raw)


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
data = st.recursive(
    scalars | st.binary() | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9), inner),
    max_leaves=20,
)


offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
points = st.builds(Point, st.integers(-(2**63), 2**63), st.integers(-(2**63), 2**63))


@given(data)
def test_plain_data_comes_back_equal(value: object) -> None:
    assert decode(encode(value)) == value
    assert through(value) == value


@given(
    st.builds(
        Order,
        points=st.lists(points),
        by_name=st.dictionaries(st.text(), points | st.none()),
        price=st.decimals(allow_nan=False),
        at=st.datetimes(timezones=offsets),
    )
)
def test_models_come_back_equal(order: Order) -> None:
    assert through(order, Order) == order


def mutants(count: int) -> Iterator[bytes]:
    chance = random.Random(8)
    nested: dict[str, object] = {"a": [1, {"b": [b"c", 2.5, None]}] * 9}
    packet, tag = Packet(b"x", Owner("a", POINTS[0])), Tag(lbl="a", when=NOW)
    values: list[object] = [ORDER, packet, tag, Term("a", Term("b", [1])), nested, list(range(-300, 300))]
    seeds = [encode(value) for value in values]
    for _ in range(count):
        raw = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(raw) + 1)
            raw[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        yield bytes(raw)


@pytest.mark.usefixtures("terms")
def test_ten_thousand_mutated_byte_strings_raise_nothing_but_decode_errors() -> None:
    chance = random.Random(9)
    readers = [decoder(kind) for kind in (Order, Packet, Tag, Term, Holder, Cat | Dog, str | uuid.UUID, dict[str, Any])]
    read = refused = 0

    for raw in mutants(10_000):
        for reader in (decode, *chance.sample(readers, 2)):
            try:
                reader(raw)
                read += 1
            except DecodeError:
                refused += 1

    assert read > 500
    assert refused > 500
