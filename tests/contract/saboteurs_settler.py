"""Saboteurs of port P. Where not said otherwise they change how the backend settles in one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio.lowlevel
import msgspec
from harness import instead, saboteur
from tampering import programming, settling

from motet.engine.wellformed import check_program
from motet.memory import MemoryBackend
from motet.ports import Entry, Reply
from motet.program import (
    Arrival,
    Arrive,
    Do,
    Drop,
    Guard,
    Once,
    Op,
    Open,
    Publish,
    Put,
    Retry,
)

replaced = msgspec.structs.replace


@saboteur("P1")
def records_are_not_dropped(backend: MemoryBackend) -> None:
    programming(backend, lambda op: [] if isinstance(op, Drop) else [op])


@saboteur("P1")
def guards_are_looked_at_before_anything_is_written(backend: MemoryBackend) -> None:
    records: Any = backend.world.records

    def apply(real: Any, op: Op) -> Any:
        if isinstance(op, Guard):
            return any(key.name in before.get(key.run, ()) for key in op.keys)
        return real(op)

    before: dict[str, set[str]] = vars(backend.world).setdefault("before", {})

    def settle_all(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        before.clear()
        before.update((run, set(values)) for run, values in records.values.items())
        replies: list[Reply] = real(entries)
        return replies

    instead(backend.world, "apply")(apply)
    instead(backend.world, "settle_all")(settle_all)


@saboteur("P1")
def a_conflict_is_acknowledged(backend: MemoryBackend) -> None:
    def settle_all(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        replies: list[Reply] = real(entries)
        for entry, reply in zip(entries, replies, strict=False):
            if reply.conflicts and entry.delivery is not None and entry.delivery.receipt in backend.world.letters.held:
                backend.world.letters.forget(entry.delivery)
        return replies

    instead(backend.world, "settle_all")(settle_all)


@saboteur("P2")
def what_was_submitted_is_published_again(backend: MemoryBackend) -> None:
    submitted: list[bool] = vars(backend.world).setdefault("submitted", [])

    def settle_all(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        submitted[:] = [True for entry in entries if entry.delivery is None]
        replies: list[Reply] = real(entries)
        return replies

    def apply(real: Any, op: Op) -> Any:
        stored = real(op)
        return None if submitted and isinstance(op, Once) and stored == op.value else stored

    instead(backend.world, "settle_all")(settle_all)
    instead(backend.world, "apply")(apply)


@saboteur("P2", settle="ordered")
def what_is_published_again_is_marked_only_with_a_delivery(backend: MemoryBackend) -> None:
    settler: Any = backend.settler

    async def settle_one(real: Any, entry: Entry) -> Reply:
        settler.submits = entry.delivery is None
        reply: Reply = await real(entry)
        return reply

    async def hand_over(real: Any, op: Publish) -> None:
        unmarked = tuple(replaced(parcel, suspect=False) for parcel in op.parcels)
        await real(Publish(unmarked) if settler.submits else op)

    instead(settler, "settle_one")(settle_one)
    instead(settler, "hand_over")(hand_over)


@saboteur("P3")
def a_conflict_ends_the_program_of_a_lone_entry(backend: MemoryBackend) -> None:
    state: dict[str, bool] = vars(backend.world).setdefault("state", {})

    def settle_all(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        state.update(alone=len(entries) == 1, ended=False)
        replies: list[Reply] = real(entries)
        return replies

    def apply(real: Any, op: Op) -> Any:
        if state["ended"]:
            return True if isinstance(op, Guard) else None
        stored = real(op)
        state["ended"] = state["alone"] and isinstance(op, Once) and stored not in (None, op.value)
        return stored

    instead(backend.world, "settle_all")(settle_all)
    instead(backend.world, "apply")(apply)


@saboteur("P3")
def a_conflict_inside_a_completed_barrier_is_not_answered(backend: MemoryBackend) -> None:
    def settle_all(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        replies: list[Reply] = real(entries)
        return [
            replaced(reply, conflicts=[each for each in reply.conflicts if each.key in outermost(entry.program)])
            for entry, reply in zip(entries, replies, strict=True)
        ]

    def outermost(ops: Sequence[Op]) -> set[Any]:
        within = [outermost(op.ops) for op in ops if isinstance(op, Do)]
        return set().union(*within, {op.key for op in ops if isinstance(op, Once)})

    instead(backend.world, "settle_all")(settle_all)


@saboteur("P3")
def a_guard_looks_at_its_first_record_only(backend: MemoryBackend) -> None:
    programming(backend, lambda op: [Guard(op.keys[:1])] if isinstance(op, Guard) else [op])


@saboteur("P3")
def a_failure_that_arrives_last_is_not_counted_above(backend: MemoryBackend) -> None:
    below: list[int] = vars(backend.world).setdefault("below", [])

    def apply(real: Any, op: Op) -> Any:
        counted = below.pop() if below else None
        if not isinstance(op, Arrive):
            return real(op)
        slots = backend.world.records.barriers.get(op.key)
        if slots is not None and len(slots.arrived) == slots.size - 1:
            below.append(slots.failed)
        return real(op if counted is None else replaced(op, failed=counted))

    instead(backend.world, "apply")(apply)


@saboteur("P3")
def a_barrier_that_may_have_failures_waits_for_all(backend: MemoryBackend) -> None:
    programming(
        backend, lambda op: [replaced(op, fast=op.fast and not op.max_failed)] if isinstance(op, Open) else [op]
    )


@saboteur("P3")
def a_closed_barrier_counts_as_completed(backend: MemoryBackend) -> None:
    def apply(real: Any, op: Op) -> Any:
        return real(op) or (Arrival(1, 1, 0) if isinstance(op, Arrive) else None)

    instead(backend.world, "apply")(apply)


@saboteur("P4")
def what_a_late_worker_puts_is_written(backend: MemoryBackend) -> None:
    def settle_all(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        replies: list[Reply] = real(entries)
        for entry, reply in zip(entries, replies, strict=False):
            if reply.lost:
                real([Entry([op for op in entry.program if isinstance(op, Put)])])
        return replies

    instead(backend.world, "settle_all")(settle_all)


@saboteur("P4")
def who_is_late_is_not_told(backend: MemoryBackend) -> None:
    instead(backend.world, "settle_all")(lambda real, entries: [replaced(each, lost=False) for each in real(entries)])


@saboteur("P5")
def a_long_program_is_carried_out_in_two_parts(backend: MemoryBackend) -> None:
    async def settle(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        if len(entries) == 1 and len(entries[0].program) == 20:
            await real([Entry(entries[0].program[:10])])
            await anyio.lowlevel.checkpoint()
        replies: list[Reply] = await real(entries)
        return replies

    instead(backend.settler, "settle")(settle)


@saboteur("P6")
def what_follows_a_malformed_entry_is_left_out(backend: MemoryBackend) -> None:
    async def settle(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        return [reply for entry in entries for reply in await real([entry])]

    instead(backend.settler, "settle")(settle)


@saboteur("P6")
def a_malformed_entry_undoes_the_batch(backend: MemoryBackend) -> None:
    async def settle(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        for entry in entries:
            check_program(entry.program)
        replies: list[Reply] = await real(entries)
        return replies

    instead(backend.settler, "settle")(settle)


@saboteur("P6")
def what_follows_a_conflict_is_left_out(backend: MemoryBackend) -> None:
    def settle_all(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        for number, entry in enumerate(entries):
            stored = [backend.world.records.get(op.key) for op in entry.program if isinstance(op, Once)]
            if entry.delivery is None and stored == [b"theirs"]:
                return [*real(entries[: number + 1]), *[Reply()] * (len(entries) - number - 1)]
        return [*real(entries)]

    instead(backend.world, "settle_all")(settle_all)


@saboteur("P6")
def the_last_entries_of_a_large_batch_come_first(backend: MemoryBackend) -> None:
    def settle_all(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        replies: list[Reply] = real(entries[::-1])[::-1] if len(entries) >= 100 else real(entries)
        return replies

    instead(backend.world, "settle_all")(settle_all)


@saboteur("P7")
def what_was_published_for_later_goes_with_its_sender(backend: MemoryBackend) -> None:
    sent: list[str] = []

    async def settle(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        published = [op for entry in entries for op in entry.program if isinstance(op, Publish)]
        sent.extend(parcel.id for op in published for parcel in op.parcels if parcel.due is not None)
        replies: list[Reply] = await real(entries)
        return replies

    def close(real: Any) -> None:
        for name in sent:
            backend.world.letters.cancel(name)
        real()

    instead(backend.settler, "settle")(settle)
    instead(backend, "close")(close)


@saboteur("P9")
def locks_are_kept_until_their_lease_is_over(backend: MemoryBackend) -> None:
    settling(backend, lambda entry: replaced(entry, settlement=None))


@saboteur("P9")
def locks_are_let_go_in_spite_of_a_conflict(backend: MemoryBackend) -> None:
    def settle_all(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        for entry in entries:
            if entry.settlement is not None and entry.settlement.release:
                backend.world.holders.release(entry.settlement.release)
        replies: list[Reply] = real(entries)
        return replies

    instead(backend.world, "settle_all")(settle_all)


@saboteur("P10")
def what_hangs_from_more_than_ten_barriers_is_left_out(backend: MemoryBackend) -> None:
    def shallow(ops: Sequence[Op], depth: int = 0) -> list[Op]:
        if depth > 10:
            return []
        return [replaced(op, then_ok=shallow(op.then_ok, depth + 1)) if isinstance(op, Arrive) else op for op in ops]

    settling(backend, lambda entry: replaced(entry, program=shallow(entry.program)))


@saboteur("P10")
def of_a_thousand_parcels_the_last_is_left_out(backend: MemoryBackend) -> None:
    programming(backend, lambda op: [Publish(op.parcels[:999])] if isinstance(op, Publish) else [op])


@saboteur("P11")
def an_attempt_is_parked_again_when_it_is_gone(backend: MemoryBackend) -> None:
    def change(op: Op) -> Sequence[Op]:
        return [Put(op.key, b"1"), Publish((op.parcel,))] if isinstance(op, Retry) else [op]

    programming(backend, change)
