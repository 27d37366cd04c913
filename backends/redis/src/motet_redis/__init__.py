"""The Redis and Valkey adapter of Motet."""
