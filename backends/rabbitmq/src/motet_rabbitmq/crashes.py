"""The places of this adapter at which a test may end or freeze the process; see `motet.failpoints`."""

from motet.failpoints import register

__all__ = ["FAILPOINTS"]

FAILPOINTS = register(
    {
        "before_claim": "messages are taken from lanes; the shards do not know by whom",
        "after_fetch": "messages are taken and claimed; who asked for them has not heard of it",
        "after_settle": "the shards have settled a batch, and its lanes are told; its worker has not heard of it",
        "before_outputs": "an owner has carried requests out; what they lead to elsewhere is not published",
        "after_outputs": "what requests lead to elsewhere is published; that they are carried out is not committed",
        "after_commit": "what requests have changed is committed; nobody has been answered",
        "in_takeover": "a new owner has read some of what its shard knows",
        "after_takeover": "a new owner has read all that its shard knows; what waits is not carried out",
        "after_tick": "a new time is in the log of a shard; what is due by then is not carried out",
        "before_compact": "old deltas of a shard are about to be written anew as one",
    }
)
