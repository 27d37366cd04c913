"""Chords on Redis while workers are killed, the server is killed, and messages come twice: what is lost or doubled?

python tests/system/redis_chords.py              # 2,000 chords of 10, 20 of 1,000, 40 workers and 8 servers killed
python tests/system/redis_chords.py --quick      # a tenth of it

See tests/faults/chaos.py. The server has an AOF.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import redis

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "faults"), str(TESTS / "servers")]

from chaos import Chaos, chord, folder, options, tell
from fleet import Fleet
from mixture import Piece, app
from redis_server import RedisServer, program

from motet import Unavailable
from motet.message import Parcel
from motet.options import Lane

SMALL, LARGE = 2000, 20
NARROW, WIDE = 10, 1000
WORKER_KILLS, SERVER_KILLS = 40, 8


@attrs.define
class OnRedis(Chaos):
    """Chords of two sizes."""

    port: int = 0
    small: int = SMALL
    large: int = LARGE

    def pieces(self) -> Iterator[tuple[str, Piece]]:
        share = max(1, self.small // max(1, self.large))
        for number in itertools.count():
            if number >= self.small and self.enough:
                return
            yield f"c{number}", chord(f"c{number}", NARROW)
            if number % share == 0 and number // share < self.large:
                yield f"w{number}", chord(f"w{number}", WIDE)

    async def some(self) -> Sequence[Parcel]:
        try:
            found = await anyio.to_thread.run_sync(self.stored)
        except redis.RedisError as error:
            raise Unavailable(str(error)) from error
        return [self.again(name.decode(), value) for name, value in found if b":r" in name and b"~" not in name]

    def stored(self) -> list[tuple[bytes, bytes]]:
        """Some messages, as motet_redis keeps them."""
        with redis.Redis(port=self.port) as client:
            found: Any = client.hrandfield("{motet}:m", 3, withvalues=True) or []
        return list(zip(found[::2], found[1::2], strict=True))

    def again(self, name: str, value: bytes) -> Parcel:
        length = value[3]
        queue, size, priority = value[4 : 4 + length].decode().rsplit(":", 2)
        return Parcel(f"{name}~{self.copies}", Lane(queue, size, int(priority)), value[4 + length :], suspect=True)


async def perform(chosen: argparse.Namespace, path: Path) -> None:
    began = time.monotonic()
    share = 10 if chosen.quick else 1
    (path / "server").mkdir()
    (path / "fleet").mkdir()
    with RedisServer(program(), path / "server", aof=True) as server:
        app.url = server.url
        with Fleet(path / "fleet", server.url, str(path)) as fleet:
            kills = WORKER_KILLS // share, SERVER_KILLS // min(share, 4)
            chaos = OnRedis(fleet, server, *kills, port=server.port, small=SMALL // share, large=LARGE // share)
            async with app:
                await chaos.play()
            print(f"{len(chaos.runs) - chaos.large:,} chords of {NARROW} and {chaos.large} of {WIDE:,}")
            tell(chaos, began)


def main() -> None:
    chosen = options(__doc__).parse_args()
    with folder(keep=chosen.keep) as path:
        anyio.run(perform, chosen, path)


if __name__ == "__main__":
    main()
