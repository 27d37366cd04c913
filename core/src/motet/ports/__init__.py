"""What a backend must do, as protocols without behaviour. Each promise is a numbered clause; numbers are never reused.

The letters: B backend, T transport, S store, D timers, C schedules, X dead letters, L locks, N signals, P settler,
W workers, E events. `motet.conformance` proves them.
"""

from motet.ports.ambient import Clock, Ids, Rng
from motet.ports.backend import Backend, Opener, Settings
from motet.ports.deadletters import DeadLetters, Filter
from motet.ports.events import Events
from motet.ports.locks import Busy, Grant, Holding, Lock, Locks
from motet.ports.schedules import Schedule, Schedules
from motet.ports.settler import Entry, Reply, Settlement, Settler
from motet.ports.signals import Signals, Wakeups
from motet.ports.store import Barrier, Store
from motet.ports.timers import Timers
from motet.ports.transport import Admission, Delivery, QueueInfo, Rule, Transport
from motet.ports.workers import Present, Workers

__all__ = [
    "Admission",
    "Backend",
    "Barrier",
    "Busy",
    "Clock",
    "DeadLetters",
    "Delivery",
    "Entry",
    "Events",
    "Filter",
    "Grant",
    "Holding",
    "Ids",
    "Lock",
    "Locks",
    "Opener",
    "Present",
    "QueueInfo",
    "Reply",
    "Rng",
    "Rule",
    "Schedule",
    "Schedules",
    "Settings",
    "Settlement",
    "Settler",
    "Signals",
    "Store",
    "Timers",
    "Transport",
    "Wakeups",
    "Workers",
]
