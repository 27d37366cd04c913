"""The clock of leases: seconds since this machine started, sleep included, and the name of that start (M4).

A lease by wall time would end for every running task at once when somebody sets the clock.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import time
from functools import cache
from pathlib import Path

__all__ = ["boot", "uptime"]

if sys.platform == "linux":

    def uptime() -> float:
        """Return seconds since the start, which never jump."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:

    def uptime() -> float:
        """Return seconds since the start, which never jump."""
        # macOS: mach_absolute_time stands still in sleep, as do the workers; a lease only gets longer.
        return time.monotonic()


@cache
def boot() -> int:
    """Return a number that tells this start of the machine from every other; 0 where the system has no name for it."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) if (name := _name()) else 0


def _name() -> str:
    identity = Path("/proc/sys/kernel/random/boot_id")
    if identity.exists():
        return identity.read_text().strip()
    if os.name != "posix" or not hasattr(libc := ctypes.CDLL(None), "sysctlbyname"):
        return ""
    # macOS.
    size = ctypes.c_size_t(64)
    name = ctypes.create_string_buffer(size.value)
    libc.sysctlbyname(b"kern.bootsessionuuid", name, ctypes.byref(size), None, 0)
    return name.value.decode()
