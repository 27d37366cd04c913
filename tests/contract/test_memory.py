"""The memory backend keeps every clause, on both event loops, fused and ordered (R76)."""

from contextlib import AbstractAsyncContextManager

from motet.conformance import BackendContract
from motet.memory import open as open_memory
from motet.memory.clock import VirtualClock
from motet.ports import Backend, Clock, Settings


class Memory(BackendContract):
    """Each test has a world of its own, whose time passes as soon as everybody waits for it."""

    loops = ("asyncio", "trio")

    def clock(self) -> Clock:
        return VirtualClock()

    def connect(self, settings: Settings) -> AbstractAsyncContextManager[Backend]:
        return open_memory(f"memory://contract{id(settings.clock)}", settings)


class TestMemory(Memory):
    pass


class TestMemoryOrdered(Memory):
    def connect(self, settings: Settings) -> AbstractAsyncContextManager[Backend]:
        return open_memory(f"memory://contract{id(settings.clock)}?settle=ordered", settings)
