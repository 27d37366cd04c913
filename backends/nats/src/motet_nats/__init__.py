"""The NATS JetStream adapter of Motet: everything in streams, each write fenced by the sequence of what it follows."""

from motet_nats.backend import NatsBackend, open
from motet_nats.client import FAILPOINTS

__all__ = ["FAILPOINTS", "NatsBackend", "open"]
