import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet import codec
from motet.depth import TERM, check_depth
from motet.errors import DecodeError

plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
nested = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner, max_size=20)
)


def depth_of(value: object) -> int:
    match value:
        case list():
            return 1 + max(map(depth_of, value), default=0)
        case dict():
            return 1 + max(map(depth_of, value.values()), default=0)
        case _:
            return 0


@given(nested)
def test_the_scan_agrees_with_a_recursive_reading(value: object) -> None:
    raw, depth = codec.encode(value), depth_of(value)

    check_depth(raw, depth)
    if depth:
        with pytest.raises(DecodeError, match="deeper"):
            # Bytes behind the limit make sure that no short cut hides the walk.
            check_depth(b"\x92" + raw + b"\xc4\xff" + b"\x90" * 255, depth)


@pytest.mark.parametrize(
    "opener", [b"\x91", b"\x81\x01", b"\xdc\x00\x01", b"\xdd\x00\x00\x00\x01", b"\xde\x00\x01\x01"]
)
def test_ten_thousand_levels_are_refused_before_they_are_decoded(opener: bytes) -> None:
    with pytest.raises(DecodeError, match="deeper than 64"):
        check_depth(opener * 10_000 + b"\x01")


def test_sixty_four_levels_pass_and_one_more_does_not() -> None:
    check_depth(b"\x91" * 64 + b"\x01")

    with pytest.raises(DecodeError):
        check_depth(b"\x91" * 65 + b"\x01")


def test_a_term_inside_a_term_counts_as_a_level() -> None:
    raw = b"\x80"
    for _ in range(70):
        raw = b"\xc8" + len(raw).to_bytes(2, "big") + bytes([TERM]) + raw

    with pytest.raises(DecodeError, match="deeper"):
        check_depth(raw)


def test_nesting_cannot_hide_behind_a_term_that_lies_about_its_length() -> None:
    hidden = b"\x91" * 100 + b"\x01"
    raw = b"\x92" + b"\xd4" + bytes([TERM]) + b"\xc4" + bytes([len(hidden)]) + hidden

    with pytest.raises(DecodeError):
        check_depth(raw)


@pytest.mark.parametrize("header", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc1"])
def test_a_header_that_promises_more_than_there_is_is_refused(header: bytes) -> None:
    for padding in (b"", b"\x90" * 100):
        with pytest.raises(DecodeError):
            codec.decode(header + padding)
