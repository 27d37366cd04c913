"""Three NATS servers that keep every stream three times: started on loopback, and killed one by one or all at once."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from guarded import HOST, ServerFailed, free_port, wait_until
from nats_server import NatsServer, RunningServer

__all__ = ["NatsCluster"]

SETTLED = 60.0
"""Seconds that all of them have to agree on who leads what, on a machine that does other work."""


class Node(NatsServer):
    """One of the servers, with a port at which it tells of itself."""

    def __init__(self, program: str | Path, folder: str | Path | None, name: str, route: int, routes: str) -> None:
        self.name = name
        self.monitor = free_port()
        cluster = f'cluster {{ name: "motet", listen: "{HOST}:{route}", routes: [{routes}] }}'
        super().__init__(
            program, folder, settings=[f'server_name: "{name}"', f'http: "{HOST}:{self.monitor}"', cluster]
        )

    def asked(self, path: str) -> dict[str, Any]:
        """What it says of itself; nothing when it does not answer, or is not healthy."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.monitor}/{path}", timeout=2) as answer:
                said: dict[str, Any] = json.load(answer)
                return said
        except OSError:
            return {}


class NatsCluster(RunningServer):
    """A cluster. Restarting it kills all of its servers; it is up again when every stream and consumer has a leader."""

    def __init__(self, program: str | Path, folder: str | Path | None = None, *, size: int = 3) -> None:
        super().__init__("")
        ports = [free_port() for _ in range(size)]
        routes = ", ".join(f'"nats://{HOST}:{port}"' for port in ports)
        self.nodes: Sequence[Node] = [
            Node(program, folder, f"n{number}", port, routes) for number, port in enumerate(ports)
        ]

    @property
    def url(self) -> str:
        """Name all, and have them keep everything as often."""
        return f"nats://{','.join(f'{HOST}:{node.port}' for node in self.nodes)}?replicas={len(self.nodes)}"

    @property
    def version(self) -> str:
        """Their version as the first reports it."""
        return self.nodes[0].version

    def start(self) -> None:
        """Start all, and wait until they serve."""
        with ExitStack() as undo:
            undo.callback(self.stop)
            for node in self.nodes:
                node.start()
            self.wait_until_serving()
            undo.pop_all()

    def stop(self) -> None:
        """Stop all."""
        for node in self.nodes:
            node.stop()

    def restart(self) -> None:
        """Kill all, start them on what they have written, and wait until they serve."""
        for node in self.nodes:
            node.kill()
        for node in self.nodes:
            node.start()
        self.wait_until_serving()

    def leader(self, stream: str = "") -> Node:
        """Return the server that leads a stream; without one, the server that leads them all.

        Raises:
            ServerFailed: Nobody does at the moment.
        """
        for node in self.nodes:
            said = node.asked("jsz?streams=true")
            names = {"": said.get("meta_cluster", {}).get("leader", "")}
            for account in said.get("account_details") or ():
                names |= {each["name"]: each.get("cluster", {}).get("leader", "") for each in account["stream_detail"]}
            if found := [each for each in self.nodes if each.name == names.get(stream)]:
                return found[0]
        raise ServerFailed(f"nobody leads {stream or 'the cluster'}")

    def wait_until_serving(self) -> None:
        """Wait until each of them has caught up with whoever leads, in everything that it keeps.

        A cluster that has just been started answers nobody: it elects for seconds, which is no fault of its clients.
        """
        for node in self.nodes:
            wait_until(partial(self._serves, node), f"{node.url} does not catch up{node.said()}", SETTLED)

    @staticmethod
    def _serves(node: Node) -> bool:
        node.alive()
        healthy = node.asked("healthz").get("status") == "ok"
        return healthy and bool(node.asked("jsz").get("meta_cluster", {}).get("leader"))
