"""AMQP 0-9-1: methods and tables to bytes, and back. No I/O."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple, cast

__all__ = ["END", "HEAD", "HEARTBEAT", "HELLO", "METHOD", "Method", "decode", "encode", "short", "table", "untable"]

HELLO = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, BEAT = 1, 2, 3, 8
END = 0xCE
HEAD = struct.Struct(">BHI")
"""Of a frame: kind, channel, and the size of what comes before END."""
HEARTBEAT: bytes = HEAD.pack(BEAT, 0, 0) + bytes([END])

METHODS: dict[str, tuple[int, int, str]] = {
    "connection.start": (10, 10, "ooTLL"),
    "connection.start-ok": (10, 11, "TSLS"),
    "connection.secure": (10, 20, "L"),
    "connection.tune": (10, 30, "sls"),
    "connection.tune-ok": (10, 31, "sls"),
    "connection.open": (10, 40, "SSb"),
    "connection.open-ok": (10, 41, "S"),
    "connection.close": (10, 50, "sSss"),
    "connection.close-ok": (10, 51, ""),
    "connection.blocked": (10, 60, "S"),
    "connection.unblocked": (10, 61, ""),
    "channel.open": (20, 10, "S"),
    "channel.open-ok": (20, 11, "L"),
    "channel.flow": (20, 20, "b"),
    "channel.flow-ok": (20, 21, "b"),
    "channel.close": (20, 40, "sSss"),
    "channel.close-ok": (20, 41, ""),
    "exchange.declare": (40, 10, "sSSbbbbbT"),
    "exchange.declare-ok": (40, 11, ""),
    "exchange.delete": (40, 20, "sSbb"),
    "exchange.delete-ok": (40, 21, ""),
    "exchange.bind": (40, 30, "sSSSbT"),
    "exchange.bind-ok": (40, 31, ""),
    "queue.declare": (50, 10, "sSbbbbbT"),
    "queue.declare-ok": (50, 11, "Sll"),
    "queue.bind": (50, 20, "sSSSbT"),
    "queue.bind-ok": (50, 21, ""),
    "queue.purge": (50, 30, "sSb"),
    "queue.purge-ok": (50, 31, "l"),
    "queue.delete": (50, 40, "sSbbb"),
    "queue.delete-ok": (50, 41, "l"),
    "queue.unbind": (50, 50, "sSSST"),
    "queue.unbind-ok": (50, 51, ""),
    "basic.qos": (60, 10, "lsb"),
    "basic.qos-ok": (60, 11, ""),
    "basic.consume": (60, 20, "sSSbbbbT"),
    "basic.consume-ok": (60, 21, "S"),
    "basic.cancel": (60, 30, "Sb"),
    "basic.cancel-ok": (60, 31, "S"),
    "basic.publish": (60, 40, "sSSbb"),
    "basic.return": (60, 50, "sSSS"),
    "basic.deliver": (60, 60, "SqbSS"),
    "basic.get": (60, 70, "sSb"),
    "basic.get-ok": (60, 71, "qbSSl"),
    "basic.get-empty": (60, 72, "S"),
    "basic.ack": (60, 80, "qb"),
    "basic.nack": (60, 120, "qbb"),
    "confirm.select": (85, 10, "b"),
    "confirm.select-ok": (85, 11, ""),
    "tx.select": (90, 10, ""),
    "tx.select-ok": (90, 11, ""),
    "tx.commit": (90, 20, ""),
    "tx.commit-ok": (90, 21, ""),
}
"""Class, method, and arguments: o, s, l, q are integers of 1, 2, 4, 8 bytes, S and L short and long strings, T tables,
b bits, of which those that stand together share a byte."""
NAMES = {(kind, number): name for name, (kind, number, _) in METHODS.items()}
PLAIN = {"o": struct.Struct(">B"), "s": struct.Struct(">H"), "l": struct.Struct(">I"), "q": struct.Struct(">Q")}
IDS, SIZE, LONG, DOUBLE = struct.Struct(">HH"), PLAIN["l"], struct.Struct(">q"), struct.Struct(">d")


class Method(NamedTuple):
    """A method and what it says, in the order of the specification."""

    name: str
    arguments: list[Any]


def encode(channel: int, name: str, *arguments: Any) -> bytes:
    """Make the frame of a method.

    Raises:
        TypeError: An argument is not what the method takes.
        ValueError: A name of more than 255 bytes.
    """
    kind, number, types = METHODS[name]
    made = [IDS.pack(kind, number)]
    given = iter(arguments)
    for letter, run in groupby(types):
        values = [next(given) for _ in run]
        if letter == "b":
            made.append(bytes([sum(1 << place for place, value in enumerate(values) if value)]))
        elif letter == "S":
            made += map(short, values)
        elif letter == "L":
            made += (SIZE.pack(len(value)) + value for value in values)
        elif letter == "T":
            made += map(table, values)
        else:
            made += map(PLAIN[letter].pack, values)
    payload = b"".join(made)
    return b"".join((HEAD.pack(METHOD, channel, len(payload)), payload, b"\xce"))


def decode(payload: bytes) -> Method:
    """Read a method.

    Raises:
        ValueError: It is none that we know.
    """
    name = NAMES.get(IDS.unpack_from(payload))
    if name is None:
        raise ValueError(f"a method that AMQP 0-9-1 does not have: {payload[:4].hex()}")
    at, found = IDS.size, list[Any]()
    for letter, run in groupby(METHODS[name][2]):
        if letter == "b":
            found += [bool(payload[at] >> place & 1) for place, _ in enumerate(run)]
            at += 1
            continue
        for _ in run:
            value, at = _value(letter, payload, at)
            found.append(value)
    return Method(name, found)


def _value(letter: str, data: bytes, at: int) -> tuple[Any, int]:
    if letter == "S":
        end = at + 1 + data[at]
        return data[at + 1 : end].decode("utf-8", "replace"), end
    if letter == "L":
        end = at + 4 + SIZE.unpack_from(data, at)[0]
        return data[at + 4 : end], end
    if letter == "T":
        return untable(data, at)
    plain = PLAIN[letter]
    return plain.unpack_from(data, at)[0], at + plain.size


def short(text: str) -> bytes:
    """Encode a string of at most 255 bytes.

    Raises:
        ValueError: It is longer.
    """
    said = text.encode()
    if len(said) > 255:
        raise ValueError(f"{text[:40]!r}... has {len(said)} bytes, and names may have 255")
    return bytes((len(said),)) + said


def table(values: Mapping[str, Any] | None) -> bytes:
    """Encode headers, or arguments.

    Raises:
        TypeError: A value is of no type that a header can have.
        ValueError: A name has more than 255 bytes, or an integer more than 64 bits.
    """
    if not values:
        return b"\x00\x00\x00\x00"
    made: list[bytes] = []
    for name, value in values.items():
        made.append(short(name))
        made.append(_field(value))
    said = b"".join(made)
    return SIZE.pack(len(said)) + said


def _field(value: Any) -> bytes:
    if isinstance(value, str):
        said = value.encode()
        return b"S" + SIZE.pack(len(said)) + said
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{value} has more than 64 bits, and a header may not")
        return b"l" + LONG.pack(value)
    if isinstance(value, bytes | bytearray):
        return b"x" + SIZE.pack(len(value)) + value
    if value is None:
        return b"V"
    if isinstance(value, float):
        return b"d" + DOUBLE.pack(value)
    if isinstance(value, datetime):
        return b"T" + PLAIN["q"].pack(int(value.timestamp()))
    if isinstance(value, Mapping):
        return b"F" + table(cast("Mapping[str, Any]", value))
    if isinstance(value, list | tuple):
        said = b"".join(map(_field, cast("list[Any]", value)))
        return b"A" + SIZE.pack(len(said)) + said
    raise TypeError(f"{type(value).__name__} is no type of a header")


def untable(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    """Read a table; return it, and where it ends.

    Raises:
        ValueError: It has a type that RabbitMQ does not use.
    """
    at, end = at + 4, at + 4 + SIZE.unpack_from(data, at)[0]
    found: dict[str, Any] = {}
    while at < end:
        stop = at + 1 + data[at]
        name = data[at + 1 : stop].decode("utf-8", "replace")
        found[name], at = _unfield(data, stop)
    return found, end


def _unfield(data: bytes, at: int) -> tuple[Any, int]:
    kind, at = data[at : at + 1], at + 1
    if kind in (b"S", b"x"):
        end = at + 4 + SIZE.unpack_from(data, at)[0]
        said = data[at + 4 : end]
        return (said if kind == b"x" else _text(said)), end
    if kind == b"F":
        return untable(data, at)
    if kind == b"A":
        at, end = at + 4, at + 4 + SIZE.unpack_from(data, at)[0]
        found: list[Any] = []
        while at < end:
            value, at = _unfield(data, at)
            found.append(value)
        return found, end
    known = FIELDS.get(kind)
    if known is None:
        raise ValueError(f"a header of the unknown type {kind!r}")
    plain, made = known
    return made(plain.unpack_from(data, at)), at + plain.size


def _text(said: bytes) -> str | bytes:
    try:
        return said.decode()
    except UnicodeDecodeError:
        return said


def _first(values: tuple[Any, ...]) -> Any:
    return values[0]


FIELDS: dict[bytes, tuple[struct.Struct, Callable[[tuple[Any, ...]], Any]]] = {
    b"t": (struct.Struct(">?"), _first),
    b"b": (struct.Struct(">b"), _first),
    b"B": (struct.Struct(">B"), _first),
    b"s": (struct.Struct(">h"), _first),
    b"u": (struct.Struct(">H"), _first),
    b"I": (struct.Struct(">i"), _first),
    b"i": (struct.Struct(">I"), _first),
    b"l": (LONG, _first),
    b"L": (LONG, _first),
    b"f": (struct.Struct(">f"), _first),
    b"d": (DOUBLE, _first),
    b"D": (struct.Struct(">Bi"), lambda each: each[1] / 10 ** each[0]),
    b"T": (PLAIN["q"], lambda each: datetime.fromtimestamp(each[0], UTC)),
    b"V": (struct.Struct(">"), lambda _: None),
}
