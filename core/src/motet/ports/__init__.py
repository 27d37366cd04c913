"""What a backend must do, as protocols without behaviour. Each promise is a numbered clause; numbers are never reused.

The letters: T transport, S store, D timers, N signals, P settler, L locks. `motet.conformance` proves them.
"""

from motet.ports.ambient import Clock, Ids, Rng
from motet.ports.backend import Backend, Opener, Settings
from motet.ports.locks import Lock, Locks
from motet.ports.settler import Entry, Reply, Settlement, Settler
from motet.ports.signals import Signals, Wakeups
from motet.ports.store import Barrier, Store
from motet.ports.timers import Timers
from motet.ports.transport import Delivery, QueueInfo, Transport

__all__ = [
    "Backend",
    "Barrier",
    "Clock",
    "Delivery",
    "Entry",
    "Ids",
    "Lock",
    "Locks",
    "Opener",
    "QueueInfo",
    "Reply",
    "Rng",
    "Settings",
    "Settlement",
    "Settler",
    "Signals",
    "Store",
    "Timers",
    "Transport",
    "Wakeups",
]
