"""Groups on RabbitMQ while workers are killed, the broker is killed, and messages come twice: what is lost or doubled?

python tests/system/rabbitmq_groups.py              # 300 groups of 10, one of 1,000; 60 workers and 6 brokers killed
python tests/system/rabbitmq_groups.py --quick      # a tenth of it
python tests/system/rabbitmq_groups.py --line 4.0   # on that server of the matrix, which .nox/servers must have

See tests/faults/chaos.py. Beside each group goes a chain with retries and a replacement, one that draws lots, one that
spawns a run, one retried later, one that is cancelled about when it ends, a group that fails, or a dead letter that is
replayed by two at once. Each worker owns a shard or two: a kill is a takeover too. A worker that is frozen is so for
longer than the broker waits for its heartbeat, and so loses all it had. Of what is copied, half is a new message, as a
client sends it who was not answered; half is the lane's own message, as an owner leaves it who died before its commit.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import anyio
import attrs

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "faults"), str(TESTS / "servers")]

from chaos import Chaos, chord, folder, options, tell
from doors import call
from fleet import Fleet
from history import Outcome
from mixture import KINDS, Piece, app, mended
from rabbitmq_server import of_line

from motet.message import Parcel
from motet.options import Lane
from motet.ports import Filter
from motet_rabbitmq import RabbitBackend
from motet_rabbitmq.frames import Frame
from motet_rabbitmq.holding import message_of
from motet_rabbitmq.machine import CONTROL
from motet_rabbitmq.roll import Roll

GROUPS, NARROW, BROAD = 300, 10, 1000
OTHERS = ("steps", "drawing", "spawning", "waiting", "racing", "buried", "failing")
WORKERS, WORKER_KILLS, SERVER_KILLS = 8, 60, 6
HEARTBEAT = 2
"""Seconds; the broker gives up on who is silent for twice as long."""
FROZEN = 3.0 * HEARTBEAT
COPIES = 6
"""Messages that are copied at a time, at most."""


@attrs.define
class OnRabbit(Chaos):
    """Groups, and all else that a message can go through."""

    groups: int = GROUPS
    broad: int = BROAD
    again: int = 0
    """Messages of lanes that were published once more as they were."""

    @property
    def backend(self) -> RabbitBackend:
        assert isinstance(app.backend, RabbitBackend)
        return app.backend

    def pieces(self) -> Iterator[tuple[str, Piece]]:
        yield f"w{self.broad}", chord(f"w{self.broad}", self.broad)
        for number in itertools.count():
            if number >= self.groups and self.enough:
                return
            yield f"c{number}", chord(f"c{number}", NARROW)
            kind = OTHERS[number % len(OTHERS)]
            yield f"{kind}{number}", KINDS[kind](f"{kind}{number}")

    async def some(self) -> Sequence[Parcel]:
        lanes: list[Lane] = await self.backend.asking.ask(CONTROL, Roll.known, None)
        parcels: list[Parcel] = []
        channel = await self.backend.consuming.channel(mode="confirm")
        try:
            for lane in lanes:
                for found in await channel.get(self.backend.asking.names.lane(lane), COPIES):
                    message = message_of(found)
                    if "~" not in message.id and self.rng.random() < 0.5:
                        name = f"{message.id}~{self.copies + len(parcels)}"
                        parcels.append(Parcel(name, lane, message.body, suspect=True))
                    else:
                        await channel.publish([Frame(found.routing_key, found.body)])
                        self.again += 1
        finally:
            await channel.close()  # what it has taken goes back, and is redelivered
        return parcels

    async def meddle(self, root: str, piece: Piece) -> None:
        if piece.cancel:
            await anyio.sleep(self.rng.uniform(0, 0.2))  # it takes about so long
            await self.insist(lambda: app.handle(root).cancel("it races with the end"))
            self.runs[root] = attrs.evolve(self.runs[root], cancelled=time.monotonic())

    async def follow(self, root: str, outcome: Outcome) -> None:
        if root.startswith("buried"):
            again = f"{root}-again"
            async with anyio.create_task_group() as operators:
                for _ in range(2):
                    operators.start_soon(self.replay, root, again)
            found = await self.see(root, again)
            if found is not None:
                self.outcomes.append(found)

    async def replay(self, root: str, again: str) -> None:
        """Replay the dead letter of a run as another run, as an operator does who presses until it is done."""
        parcel = call(app, again, mended.s(root, 9))
        page = await self.insist(lambda: self.backend.deadletters.page(Filter(task="faults:mended"), None, 1_000_000))
        # A copy of a message has an id of its own, and its letter has that.
        for letter in page:
            if letter.id.startswith(f"{root}:"):
                await self.insist(partial(self.backend.deadletters.replay, [(letter.id, parcel)]))


async def perform(chosen: argparse.Namespace, path: Path) -> None:
    began = time.monotonic()
    share = 10 if chosen.quick else 1
    for name in ("server", "fleet"):
        (path / name).mkdir()
    with of_line(chosen.line, path / "server") as broker:
        url = app.url = f"{broker.url}?heartbeat={HEARTBEAT}"
        with Fleet(path / "fleet", url, str(path), size=WORKERS) as fleet:
            kills = WORKER_KILLS // share, max(1, SERVER_KILLS // share)
            chaos = OnRabbit(fleet, broker, *kills, groups=GROUPS // share, broad=BROAD // share, frozen=FROZEN)
            async with app:
                await chaos.play()
            groups = sum(root.startswith("c") for root in chaos.runs)
            print(f"RabbitMQ {broker.version}: {groups:,} groups of {NARROW}, one of {chaos.broad:,},", end=" ")
            print(f"{len(chaos.runs) - groups - 1:,} others; {chaos.again:,} messages of lanes stored once more")
            tell(chaos, began)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--line", default="", help="the version's beginning, of a server of the matrix")
    chosen = parser.parse_args()
    with folder(keep=chosen.keep) as path:
        anyio.run(perform, chosen, path)


if __name__ == "__main__":
    main()
