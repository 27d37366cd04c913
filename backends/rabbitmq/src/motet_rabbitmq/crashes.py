"""The places of this adapter at which a test may end or freeze the process; see `motet.failpoints`."""

from motet.failpoints import register

__all__ = ["FAILPOINTS"]

FAILPOINTS = register(
    {
        "before_claim": "messages are taken from lanes; the shards do not know by whom",
        "after_fetch": "messages are taken and claimed; who asked for them has not heard of it",
        "after_settle": "every shard has answered for a batch, and its lanes are acknowledged",
        "before_outputs": "records are carried out in memory; nothing has left the owner",
        "after_outputs": "what records led to is published; the shard does not know it",
        "after_commit": "deltas stand in the place of the records; nobody has been answered",
        "in_takeover": "a new owner has read some of what its shard knows",
        "after_takeover": "a new owner has read all that its shard knows; what waits is not carried out",
        "after_tick": "a new time is in the log of a shard; what is due by then is not carried out",
        "before_compact": "old deltas of a shard are about to be written anew as one",
    }
)
