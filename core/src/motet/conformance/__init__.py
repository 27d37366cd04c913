"""The published suite that proves a backend: `pip install 'motet[conformance]'`, subclass, write `connect`.

docs/writing-an-adapter.md shows a whole file. Nothing else of Motet imports this, nor pytest or Hypothesis.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"motet.conformance.{name}"
        for name in (
            "admissions",
            "backend",
            "deadletters",
            "events",
            "flows",
            "locks",
            "mishaps",
            "schedules",
            "settler",
            "signals",
            "store",
            "timers",
            "transport",
            "workers",
            "workflows",
        )
    )
)

from motet.conformance.admissions import AdmissionContract
from motet.conformance.backend import BackendContract, ClientContract
from motet.conformance.contract import Contract
from motet.conformance.deadletters import DeadLettersContract
from motet.conformance.events import EventsContract
from motet.conformance.locks import LocksContract
from motet.conformance.mishaps import MishapContract
from motet.conformance.schedules import SchedulesContract
from motet.conformance.settler import SettlerContract
from motet.conformance.signals import SignalsContract
from motet.conformance.stage import Stage, Unproven
from motet.conformance.store import StoreContract
from motet.conformance.timers import TimersContract
from motet.conformance.transport import TransportContract
from motet.conformance.workers import WorkersContract
from motet.conformance.workflows import WorkflowContract

__all__ = [
    "AdmissionContract",
    "BackendContract",
    "ClientContract",
    "Contract",
    "DeadLettersContract",
    "EventsContract",
    "LocksContract",
    "MishapContract",
    "SchedulesContract",
    "SettlerContract",
    "SignalsContract",
    "Stage",
    "StoreContract",
    "TimersContract",
    "TransportContract",
    "Unproven",
    "WorkersContract",
    "WorkflowContract",
]
