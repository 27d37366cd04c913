"""Workflows on NATS while workers are killed, the server is killed, and messages come twice: what is lost or doubled?

python tests/system/nats_groups.py              # 500 groups of 10, one of 1,000, one of 5,000; 100 workers, 20 servers
python tests/system/nats_groups.py --quick      # a tenth of it
python tests/system/nats_groups.py --cluster    # 100 groups of 10, while leaders of three servers are killed

See tests/faults/chaos.py. Beside each group goes a chain with retries and a replacement, one that draws lots, one that
spawns a run, one retried after more than a lease, one that is cancelled about when it ends, a group that fails, or a
dead letter that is replayed by two at once. At least every tenth message is copied.
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
from guarded import ServerFailed, wait_until
from history import Outcome
from mixture import KINDS, Piece, app, mended
from nats_cluster import NatsCluster
from nats_server import NatsServer, find

from motet.message import Parcel
from motet.ports import Filter
from motet_nats import NatsBackend
from motet_nats.names import Names, lane_in
from motet_nats.wire import read_letter

NARROW = 10
OTHERS = ("steps", "drawing", "spawning", "waiting", "racing", "buried", "failing")
Scale = tuple[int, int, tuple[int, int], tuple[int, ...]]
"""Workers, groups, how many workers and servers are killed, and the sizes of large groups, one of each."""
ALONE: Scale = (8, 500, (100, 20), (1000, 5000))
OF_CLUSTER: Scale = (4, 100, (10, 5), ())
"""On a cluster: three servers need the rest of the machine."""
COPIES = 12
"""Messages that are copied at a time, at most."""


@attrs.define
class OnNats(Chaos):
    """Groups, and all else that a message can go through."""

    groups: int = 0
    broad: Sequence[int] = ()

    @property
    def backend(self) -> NatsBackend:
        assert isinstance(app.backend, NatsBackend)
        return app.backend

    def pieces(self) -> Iterator[tuple[str, Piece]]:
        for size in self.broad:
            yield f"w{size}", chord(f"w{size}", size)
        for number in itertools.count():
            if number >= self.groups and self.enough:
                return
            yield f"c{number}", chord(f"c{number}", NARROW)
            kind = OTHERS[number % len(OTHERS)]
            yield f"{kind}{number}", KINDS[kind](f"{kind}{number}")

    async def some(self) -> Sequence[Parcel]:
        streams, names = self.backend.streams, self.backend.client.names
        newest = int((await streams.info(names.messages))["state"]["last_seq"])
        first = self.rng.randint(max(1, newest - 2000), newest + 1)
        parcels: list[Parcel] = []
        for stored in await streams.scan(names.messages, f"{names.letters}.*.*.q.>", first, COPIES):
            letter = read_letter(stored.data)
            if "~" not in letter.id:
                name = f"{letter.id}~{self.copies + len(parcels)}"
                parcels.append(Parcel(name, lane_in(stored.subject), letter.body, suspect=True))
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


@attrs.frozen
class Leaders:
    """A cluster of which the server that leads the messages is killed, and comes back when another leads."""

    cluster: NatsCluster

    def restart(self) -> None:
        stream = Names(app.namespace).messages
        leader = self.cluster.leader(stream)
        leader.kill()
        wait_until(partial(self.followed, stream, leader), "nobody follows the leader that was killed", 60)
        leader.start()
        self.cluster.wait_until_serving()

    def followed(self, stream: str, dead: NatsServer) -> bool:
        try:
            return self.cluster.leader(stream) is not dead
        except ServerFailed:
            return False


async def perform(chosen: argparse.Namespace, path: Path) -> None:
    began = time.monotonic()
    share = 10 if chosen.quick else 1
    folder = path / "server"
    folder.mkdir()
    (path / "fleet").mkdir()
    with NatsCluster(find(), folder) if chosen.cluster else NatsServer(find(), folder) as server:
        app.url = server.url
        size, groups, (workers, servers), broad = OF_CLUSTER if chosen.cluster else ALONE
        with Fleet(path / "fleet", server.url, str(path), size=size) as fleet:
            chaos = OnNats(
                fleet,
                Leaders(server) if isinstance(server, NatsCluster) else server,
                workers // share,
                servers // share,
                groups=groups // share,
                broad=[size // share for size in broad],
            )
            async with app:
                await chaos.play()
            groups = sum(root.startswith("c") for root in chaos.runs)
            others = len(chaos.runs) - groups - len(chaos.broad)
            print(f"{groups:,} groups of {NARROW}, one of each of {list(chaos.broad)}, {others:,} others")
            tell(chaos, began)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--cluster", action="store_true", help="kill the leaders of a cluster of three")
    chosen = parser.parse_args()
    with folder(keep=chosen.keep) as path:
        anyio.run(perform, chosen, path)


if __name__ == "__main__":
    main()
