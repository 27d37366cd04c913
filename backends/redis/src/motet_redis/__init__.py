"""The Redis and Valkey adapter of Motet: every settlement in one round trip, many at a time."""

from motet_redis.backend import RedisBackend, open
from motet_redis.client import FAILPOINTS

__all__ = ["FAILPOINTS", "RedisBackend", "open"]
