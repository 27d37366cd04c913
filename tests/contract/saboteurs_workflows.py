"""Saboteurs of workflows: what is broken beneath the worker shows only in whole runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from harness import instead, saboteur
from tampering import programming, settling

from motet.memory import MemoryBackend
from motet.message import Key, Parcel, pack, read_record
from motet.options import CONTROL
from motet.ports import Delivery, Entry, Reply
from motet.program import Arrive, Bury, Do, Once, Op, Open, Publish, Put, Retry

replaced = msgspec.structs.replace


@saboteur("F1")
def outcomes_are_read_in_the_order_of_their_names(backend: MemoryBackend) -> None:
    async def get(real: Any, keys: Sequence[Key]) -> Any:
        alike = len({key.run for key in keys}) == 1 and all(key.name.startswith("o.") for key in keys)
        return await real(sorted(keys) if alike else keys)

    instead(backend.store, "get")(get)


@saboteur("F1")
def an_empty_list_is_not_kept(backend: MemoryBackend) -> None:
    programming(backend, lambda op: [] if isinstance(op, Once) and pack(b"\x90") in op.value else [op])


@saboteur("F2")
def a_barrier_that_may_have_no_failure_waits_for_all(backend: MemoryBackend) -> None:
    programming(backend, lambda op: [replaced(op, fast=False)] if isinstance(op, Open) and not op.max_failed else [op])


@saboteur("F3")
def a_retry_comes_early(backend: MemoryBackend) -> None:
    def change(op: Op) -> Sequence[Op]:
        if not isinstance(op, Retry) or op.parcel.due is None:
            return [op]
        left = op.parcel.due - backend.world.clock.now()
        return [Retry(op.key, replaced(op.parcel, due=op.parcel.due - left / 10))]

    programming(backend, change)


@saboteur("F3")
def a_call_is_retried_once(backend: MemoryBackend) -> None:
    programming(backend, lambda op: [] if isinstance(op, Retry) and op.key.name.endswith(".3") else [op])


@saboteur("F4")
def of_two_callbacks_of_a_failure_one_is_lost(backend: MemoryBackend) -> None:
    def change(op: Op) -> Sequence[Op]:
        if not isinstance(op, Arrive):
            return [op]
        callbacks = [each for each in op.then_err if isinstance(each, Do)]
        return [replaced(op, then_err=[each for each in op.then_err if each not in callbacks[1:]])]

    programming(backend, change)


@saboteur("F4")
def a_callback_of_a_success_is_sent_again(backend: MemoryBackend) -> None:
    sent: list[Publish] = vars(backend.world).setdefault("sent", [])

    def settle_all(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        for entry in entries:
            within = [do for op in entry.program if isinstance(op, Arrive) for do in op.then_ok if isinstance(do, Do)]
            sent.extend(op for do in within for op in do.ops if isinstance(op, Publish) and op not in sent)
        replies: list[Reply] = real(entries)
        return replies

    async def receive(real: Any, *given: Any, **options: Any) -> list[Delivery]:
        for op in sent:
            await backend.transport.publish(op.parcels)
        taken: list[Delivery] = await real(*given, **options)
        return taken

    instead(backend.world, "settle_all")(settle_all)
    instead(backend.transport, "receive")(receive)


@saboteur("F5")
def the_end_of_a_run_is_remembered_for_a_second(backend: MemoryBackend) -> None:
    def change(op: Op) -> Sequence[Op]:
        return [replaced(op, ttl=timedelta(seconds=1))] if isinstance(op, Once) and op.ttl is not None else [op]

    programming(backend, change)


@saboteur("F6")
def what_a_replaced_call_has_spawned_is_lost(backend: MemoryBackend) -> None:
    def change(op: Op) -> Sequence[Op]:
        if not isinstance(op, Do) or not any(isinstance(each, Once) and each.key.name[:2] == "s." for each in op.ops):
            return [op]
        return [Do([each for each in op.ops if not isinstance(each, Do)])]

    programming(backend, change)


@saboteur("F6")
def a_call_does_not_wait_for_its_second_child(backend: MemoryBackend) -> None:
    def change(op: Op) -> Sequence[Op]:
        if not isinstance(op, Arrive) or op.key.name.count(".") < 2:
            return [op]
        kept = [each for each in op.then_ok if isinstance(each, Once) and read_record(each.value).value is not None]
        return [op, *op.then_ok] if kept else [op]

    programming(backend, change)


@saboteur("F7")
def an_id_is_forgotten_with_its_run(backend: MemoryBackend) -> None:
    async def sweep(real: Any, run: str, limit: int) -> bool:
        await backend.store.drop([Key("given-ids", run)])
        done: bool = await real(run, limit)
        return done

    instead(backend.store, "sweep")(sweep)


@saboteur("F8")
def failures_from_slot_two_hundred_on_are_not_counted(backend: MemoryBackend) -> None:
    programming(backend, lambda op: [replaced(op, failed=0)] if isinstance(op, Arrive) and op.slot >= 200 else [op])


@saboteur("F8")
def the_last_slot_of_a_page_does_not_arrive(backend: MemoryBackend) -> None:
    programming(backend, lambda op: [] if isinstance(op, Arrive) and op.slot == 255 else [op])


@saboteur("F9")
def a_sweep_leaves_large_values(backend: MemoryBackend) -> None:
    records = backend.world.records

    async def sweep(real: Any, run: str, limit: int) -> bool:
        large = {name: value for name, value in records.values.get(run, {}).items() if len(value) > 16 * 1024}
        done: bool = await real(run, limit)
        if large:
            records.values[run] = large
        return done

    instead(backend.store, "sweep")(sweep)


@saboteur("F9")
def large_values_are_gone_too_soon(backend: MemoryBackend) -> None:
    def change(op: Op) -> Sequence[Op]:
        large = isinstance(op, Put) and type(op.value) is bytes and len(op.value) > 16 * 1024
        return [replaced(op, ttl=timedelta(seconds=0.1))] if large else [op]

    programming(backend, change)


@saboteur("F10")
def a_chain_goes_on_again_from_a_record_that_is_there(backend: MemoryBackend) -> None:
    links: set[Key] = vars(backend.world).setdefault("links", set())

    def change(entry: Entry) -> Entry:
        if entry.delivery is not None and not any(isinstance(op, Arrive) for op in entry.program):
            links.update(op.key for op in entry.program if isinstance(op, Once))
        return entry

    def apply(real: Any, op: Op) -> Any:
        stored = real(op)
        return None if isinstance(op, Once) and op.key in links and stored == op.value else stored

    settling(backend, change)
    instead(backend.world, "apply")(apply)


@saboteur("F11")
def nobody_is_told_when_the_time_of_a_scope_is_over(backend: MemoryBackend) -> None:
    def change(op: Op) -> Sequence[Op]:
        if not isinstance(op, Publish):
            return [op]
        return [Publish(tuple(each for each in op.parcels if each.lane != CONTROL or ":t" not in each.id))]

    programming(backend, change)


@saboteur("F11")
def the_end_of_a_scope_comes_late(backend: MemoryBackend) -> None:
    def late(parcel: Parcel) -> Parcel:
        if parcel.due is None or parcel.lane != CONTROL or ":t" not in parcel.id:
            return parcel
        return replaced(parcel, due=parcel.due + timedelta(seconds=10))

    programming(backend, lambda op: [Publish(tuple(map(late, op.parcels)))] if isinstance(op, Publish) else [op])


@saboteur("F12")
def what_a_settlement_parks_comes_early(backend: MemoryBackend) -> None:
    def change(op: Op) -> Sequence[Op]:
        if not isinstance(op, Publish):
            return [op]
        early = timedelta(seconds=0.1)
        return [Publish(tuple(replaced(each, due=each.due - early) if each.due else each for each in op.parcels))]

    programming(backend, change)


@saboteur("F13")
def of_four_leases_that_run_out_at_once_one_is_not_seen(backend: MemoryBackend) -> None:
    letters = backend.world.letters

    def reap(real: Any) -> None:
        over = [receipt for receipt, letter in letters.held.items() if letter.until <= letters.clock.monotonic()]
        if len(over) >= 4:
            letters.held[over[0]].until = 1e9
        real()

    instead(letters, "reap")(reap)


def unburied(backend: MemoryBackend, kind: str) -> None:
    """Have letters of a kind not kept."""
    programming(backend, lambda op: [] if isinstance(op, Bury) and op.letter.error.kind == kind else [op])


def untold(backend: MemoryBackend, kind: str) -> None:
    """Have the barriers not learn of letters of a kind."""

    def change(entry: Entry) -> Entry:
        dead = any(isinstance(op, Bury) and op.letter.error.kind == kind for op in entry.program)
        return replaced(entry, program=[op for op in entry.program if not (dead and isinstance(op, Arrive))])

    settling(backend, change)


@saboteur("F14")
def what_killed_its_workers_is_not_buried(backend: MemoryBackend) -> None:
    unburied(backend, "worker_lost")


@saboteur("F14")
def a_group_does_not_learn_what_killed_its_workers(backend: MemoryBackend) -> None:
    untold(backend, "worker_lost")


@saboteur("F15")
def what_nobody_knows_is_not_buried(backend: MemoryBackend) -> None:
    unburied(backend, "unknown_task")


@saboteur("F15")
def a_group_does_not_learn_what_nobody_knows(backend: MemoryBackend) -> None:
    untold(backend, "unknown_task")


@saboteur("F16")
def bytes_that_are_no_message_are_not_kept(backend: MemoryBackend) -> None:
    def change(op: Op) -> Sequence[Op]:
        return [] if isinstance(op, Bury) and op.letter.error.kind == "malformed" else [op]

    programming(backend, change)
