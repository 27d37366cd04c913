"""Every library in turn, some times over: so that a busy minute of the machine does not hit one alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from peers.stages import Rows, Size, sections
from peers.table import Peer
from redis_server import RedisServer, program


def rounds(peers: Sequence[Peer], size: Size, chosen: Callable[[str], bool]) -> tuple[dict[str, list[Rows]], str]:
    """Return the rows of each run by the name of the peer, and what the server says it is."""
    results: dict[str, list[Rows]] = {peer.name: [] for peer in peers}
    with RedisServer(program(), aof=False) as server:
        url = f"redis://127.0.0.1:{server.port}"
        for run in range(size.runs):
            for peer in peers:
                print(f"measuring: redis, run {run + 1} of {size.runs}: {peer.name}", file=sys.stderr, flush=True)
                results[peer.name].append(sections(peer, server, url, size, chosen))
        return results, server.version.capitalize()
