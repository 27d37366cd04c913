"""The Redis and Valkey adapter of Motet: every settlement in one round trip, many at a time."""

from motet_redis.backend import RedisBackend, open

__all__ = ["RedisBackend", "open"]
