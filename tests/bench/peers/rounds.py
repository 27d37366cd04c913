"""Every library in turn, some times over: so that a busy minute of the machine does not hit one alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from peers.brokers import Broker
from peers.lines import Results
from peers.stages import Rows, Size, sections
from peers.table import Peer


def rounds(broker: Broker, peers: Sequence[Peer], size: Size, chosen: Callable[[str], bool]) -> Results:
    """Return the rows of each run by the name of the peer, and what the server says it is."""
    runs: dict[str, list[Rows]] = {peer.name: [] for peer in peers}
    with broker.server() as server:
        for run in range(size.runs):
            for peer in peers:
                at = f"{broker.name}, run {run + 1} of {size.runs}: {peer.name}"
                print(f"measuring: {at}", file=sys.stderr, flush=True)
                url = f"{broker.name}://127.0.0.1:{server.port}"
                runs[peer.name].append(sections(peer, server, url, size, chosen))
        said = server.version
        return Results(broker, runs, f"{broker.title} {said}" if said[:1].isdigit() else said.capitalize())
