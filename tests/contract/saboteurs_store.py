"""Saboteurs of port S."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import anyio.lowlevel
import msgspec
from harness import instead, saboteur

from motet.memory import MemoryBackend
from motet.memory.records import Counter
from motet.message import Key
from motet.program import Arrival, Flag, Once, Open, Put

replaced = msgspec.structs.replace


@saboteur("S1")
def a_loser_is_told_that_it_wrote(backend: MemoryBackend) -> None:
    async def put_once(real: Any, records: Sequence[Once]) -> Any:
        await real(records)
        return [None] * len(records)

    instead(backend.store, "put_once")(put_once)


@saboteur("S1")
def of_a_batch_the_last_record_of_a_key_is_written(backend: MemoryBackend) -> None:
    async def put_once(real: Any, records: Sequence[Once]) -> Any:
        return await real(list({record.key: record for record in records}.values()))

    instead(backend.store, "put_once")(put_once)


@saboteur("S1")
def of_two_writers_at_once_both_write(backend: MemoryBackend) -> None:
    async def put_once(real: Any, records: Sequence[Once]) -> Any:
        missing = await backend.store.get([record.key for record in records]) == [None]
        await anyio.lowlevel.checkpoint()
        if missing:
            await backend.store.drop([records[0].key])
        return await real(records)

    instead(backend.store, "put_once")(put_once)


@saboteur("S2")
def a_replica_lags_behind_a_run_of_many_records(backend: MemoryBackend) -> None:
    world: Any = backend.world
    since: dict[Key, float] = vars(world).setdefault("since", {})

    async def put_once(real: Any, records: Sequence[Once]) -> Any:
        since.update((record.key, world.clock.monotonic()) for record in records)
        return await real(records)

    async def get(real: Any, keys: Sequence[Key]) -> Any:
        visible = world.clock.monotonic() - 0.02
        lags = any(len(world.records.values.get(key.run, ())) > 10 for key in keys)
        late = [lags and since.get(key, visible) > visible for key in keys]
        return [None if hidden else value for hidden, value in zip(late, await real(keys), strict=True)]

    instead(backend.store, "put_once")(put_once)
    instead(backend.store, "get")(get)


@saboteur("S2")
def a_client_remembers_for_a_while_what_another_had_not_written(backend: MemoryBackend) -> None:
    clock, missing = backend.world.clock, dict[Key, float]()

    async def get(real: Any, keys: Sequence[Key]) -> Any:
        found = await real(keys)
        missing.update((key, clock.monotonic()) for key, value in zip(keys, found, strict=True) if value is None)
        return [None if missing.get(key) == clock.monotonic() else each for key, each in zip(keys, found, strict=True)]

    async def write(real: Any, *given: Any) -> Any:
        missing.clear()
        return await real(*given)

    instead(backend.store, "get")(get)
    for port, name in ((backend.store, "put_once"), (backend.store, "put"), (backend.settler, "settle")):
        instead(port, name)(write)


@saboteur("S3")
def a_slot_has_the_failures_of_its_last_arrival(backend: MemoryBackend) -> None:
    async def arrive(real: Any, key: Key, slot: int, failed: int) -> Any:
        slots = backend.world.records.barriers.get(key)
        if slots is not None and slot in slots.arrived:
            slots.failed += failed - slots.arrived[slot]
            slots.arrived[slot] = failed
        return await real(key, slot, failed)

    instead(backend.store, "arrive")(arrive)


@saboteur("S3")
def of_two_arrivals_at_once_one_is_lost(backend: MemoryBackend) -> None:
    async def arrive(real: Any, key: Key, slot: int, failed: int) -> Any:
        slots = backend.world.records.barriers.get(key)
        arrived, failures = (dict(slots.arrived), slots.failed) if slots is not None else ({}, 0)
        await anyio.lowlevel.checkpoint()
        if slots is not None:
            slots.arrived, slots.failed = arrived, failures
        return await real(key, slot, failed)

    instead(backend.store, "arrive")(arrive)


@saboteur("S4")
def an_arrival_that_changes_nothing_answers_nothing(backend: MemoryBackend) -> None:
    async def arrive(real: Any, key: Key, slot: int, failed: int) -> Any:
        slots = backend.world.records.barriers.get(key)
        again = slots is not None and slot in slots.arrived
        answer = await real(key, slot, failed)
        return None if again else answer

    instead(backend.store, "arrive")(arrive)


@saboteur("S4")
def an_arrival_answers_from_the_level_before_it(backend: MemoryBackend) -> None:
    async def arrive(real: Any, key: Key, slot: int, failed: int) -> Any:
        slots = backend.world.records.barriers.get(key)
        before = None if slots is None else Arrival(slots.size, len(slots.arrived), slots.failed)
        await real(key, slot, failed)
        return before

    instead(backend.store, "arrive")(arrive)


@saboteur("S5")
def an_arrival_creates_the_barrier(backend: MemoryBackend) -> None:
    async def arrive(real: Any, key: Key, slot: int, failed: int) -> Any:
        answer = await real(key, slot, failed)
        await backend.store.open([Open(key, 256)])
        return answer

    instead(backend.store, "arrive")(arrive)


@saboteur("S5")
def an_unknown_barrier_counts_none(backend: MemoryBackend) -> None:
    async def arrive(real: Any, key: Key, slot: int, failed: int) -> Any:
        return await real(key, slot, failed) or Arrival(0, 0, 0)

    instead(backend.store, "arrive")(arrive)


@saboteur("S6")
def opening_again_forgets_who_arrived(backend: MemoryBackend) -> None:
    async def open_(real: Any, barriers: Sequence[Open]) -> None:
        for barrier in barriers:
            backend.world.records.barriers.pop(barrier.key, None)
        await real(barriers)

    instead(backend.store, "open")(open_)


@saboteur("S6")
def opening_again_changes_how_many_may_fail(backend: MemoryBackend) -> None:
    async def open_(real: Any, barriers: Sequence[Open]) -> None:
        await real(barriers)
        for barrier in barriers:
            backend.world.records.barriers[barrier.key].max_failed = barrier.max_failed

    instead(backend.store, "open")(open_)


@saboteur("S7")
def what_is_put_once_stays_for_ever(backend: MemoryBackend) -> None:
    async def put_once(real: Any, records: Sequence[Once]) -> Any:
        return await real([replaced(record, ttl=None) for record in records])

    instead(backend.store, "put_once")(put_once)


@saboteur("S7")
def what_is_put_has_a_time_to_live_only_when_it_replaces(backend: MemoryBackend) -> None:
    async def put(real: Any, records: Sequence[Put]) -> None:
        known = await backend.store.get([record.key for record in records])
        await real([replaced(r, ttl=None) if old is None else r for r, old in zip(records, known, strict=True)])

    instead(backend.store, "put")(put)


@saboteur("S7")
def a_batch_has_the_time_to_live_of_its_first_record(backend: MemoryBackend) -> None:
    async def put_once(real: Any, records: Sequence[Once]) -> Any:
        return await real([replaced(record, ttl=records[0].ttl) for record in records])

    instead(backend.store, "put_once")(put_once)


@saboteur("S7")
def what_has_expired_is_in_the_way(backend: MemoryBackend) -> None:
    written: dict[Key, bytes] = vars(backend.world).setdefault("written", {})

    async def put_once(real: Any, records: Sequence[Once]) -> Any:
        if len(records) == 1 and records[0].key in written:
            return [written[records[0].key]]
        written.update((record.key, record.value) for record in records if record.ttl is not None)
        return await real(records)

    instead(backend.store, "put_once")(put_once)


@saboteur("S7")
def names_of_what_has_expired_are_listed(backend: MemoryBackend) -> None:
    written: dict[str, set[str]] = vars(backend.world).setdefault("written", {})

    async def put_once(real: Any, records: Sequence[Once]) -> Any:
        for record in records:
            if record.ttl is not None:
                written.setdefault(record.key.run, set()).add(record.key.name)
        return await real(records)

    async def names(real: Any, run: str, prefix: str) -> list[str]:
        return [*await real(run, prefix), *written.get(run, ())]

    instead(backend.store, "put_once")(put_once)
    instead(backend.store, "names")(names)


@saboteur("S8")
def a_sweep_removes_one_more_than_its_limit(backend: MemoryBackend) -> None:
    async def sweep(real: Any, run: str, limit: int) -> bool:
        done: bool = await real(run, limit + 1)
        return done

    instead(backend.store, "sweep")(sweep)


@saboteur("S8")
def a_sweep_is_done_before_its_last_slice(backend: MemoryBackend) -> None:
    async def sweep(real: Any, run: str, limit: int) -> bool:
        done: bool = await real(run, limit)
        return done or len(backend.world.records.values.get(run, ())) <= limit

    instead(backend.store, "sweep")(sweep)


@saboteur("S8")
def a_sweep_of_what_is_gone_is_never_done(backend: MemoryBackend) -> None:
    async def sweep(real: Any, run: str, limit: int) -> bool:
        gone = run not in backend.world.records.values and run not in backend.world.records.counters
        return await real(run, limit) and not gone

    instead(backend.store, "sweep")(sweep)


@saboteur("S8")
def a_sweep_leaves_barriers(backend: MemoryBackend) -> None:
    async def sweep(real: Any, run: str, limit: int) -> bool:
        barriers = dict(backend.world.records.barriers)
        done: bool = await real(run, limit)
        backend.world.records.barriers.update(barriers)
        return done

    instead(backend.store, "sweep")(sweep)


@saboteur("S8")
def a_sweep_takes_runs_that_begin_alike(backend: MemoryBackend) -> None:
    async def sweep(real: Any, run: str, limit: int) -> bool:
        for other in [each for each in backend.world.records.values if each.startswith(run) and each != run]:
            await real(other, limit)
        done: bool = await real(run, limit)
        return done

    instead(backend.store, "sweep")(sweep)


@saboteur("S9")
def the_flag_at_a_cursor_is_read_again(backend: MemoryBackend) -> None:
    async def flags(real: Any, since: str | None) -> Any:
        return await real(str(max(0, int(since) - 1)) if since else since)

    instead(backend.store, "flags")(flags)


@saboteur("S9")
def of_flags_at_once_the_last_is_lost(backend: MemoryBackend) -> None:
    async def flag(real: Any, scopes: Sequence[Flag]) -> None:
        await real(scopes[:-1] if len(scopes) > 1 else scopes)

    instead(backend.store, "flag")(flag)


@saboteur("S9")
def a_client_reads_flags_from_its_own_beginning(backend: MemoryBackend) -> None:
    opened, _ = backend.world.records.flags_since(None)

    async def flags(real: Any, since: str | None) -> Any:
        return await real(since or opened)

    instead(backend.store, "flags")(flags)


@saboteur("S9")
def a_flag_is_seen_two_seconds_late(backend: MemoryBackend) -> None:
    records = backend.world.records
    coming: list[tuple[float, Flag]] = vars(backend.world).setdefault("coming", [])

    async def flag(real: Any, scopes: Sequence[Flag]) -> None:
        coming.extend((records.clock.monotonic() + 2, scope) for scope in scopes)

    async def flags(real: Any, since: str | None) -> Any:
        while coming and coming[0][0] <= records.clock.monotonic():
            records.flag(coming.pop(0)[1])
        return await real(since)

    instead(backend.store, "flag")(flag)
    instead(backend.store, "flags")(flags)


@saboteur("S10")
def the_beginning_of_a_name_is_a_pattern(backend: MemoryBackend) -> None:
    async def names(real: Any, run: str, prefix: str) -> list[str]:
        return [name for name in await real(run, "") if re.match(prefix, name)]

    instead(backend.store, "names")(names)


@saboteur("S10")
def names_of_runs_that_begin_alike_are_listed(backend: MemoryBackend) -> None:
    async def names(real: Any, run: str, prefix: str) -> list[str]:
        alike = [each for each in backend.world.records.values if each.startswith(run) and len(each) <= len(run) + 1]
        return [name for each in alike for name in await real(each, prefix)]

    instead(backend.store, "names")(names)


@saboteur("S11")
def runs_are_listed_by_name(backend: MemoryBackend) -> None:
    async def runs(real: Any, before: str | None, limit: int) -> Any:
        found = sorted(await real(None, 10_000), reverse=True)
        return [each for each in found if before is None or each[0] < before][:limit]

    instead(backend.store, "runs")(runs)


@saboteur("S11")
def a_page_of_runs_skips_one(backend: MemoryBackend) -> None:
    async def runs(real: Any, before: str | None, limit: int) -> Any:
        return (await real(before, limit + 1))[1:] if before else await real(before, limit)

    instead(backend.store, "runs")(runs)


@saboteur("S11")
def runs_without_a_record_r_are_listed(backend: MemoryBackend) -> None:
    async def runs(real: Any, before: str | None, limit: int) -> Any:
        others = [(run, b"") for run, kept in backend.world.records.values.items() if "r" not in kept]
        return await real(before, limit) if before or not others else others[:1] + await real(before, limit - 1)

    instead(backend.store, "runs")(runs)


@saboteur("S12")
def no_bytes_are_no_value(backend: MemoryBackend) -> None:
    async def get(real: Any, keys: Sequence[Key]) -> Any:
        return [value or None for value in await real(keys)]

    instead(backend.store, "get")(get)


@saboteur("S12")
def a_large_value_is_cut(backend: MemoryBackend) -> None:
    async def put_once(real: Any, records: Sequence[Once]) -> Any:
        answer = await real(records)
        large = [record for record in records if len(record.value) > 1_000_000]
        await backend.store.put([Put(record.key, record.value[:1_000_000], record.ttl) for record in large])
        return answer

    instead(backend.store, "put_once")(put_once)


@saboteur("S12")
def values_end_before_their_trailing_zeros(backend: MemoryBackend) -> None:
    async def put(real: Any, records: Sequence[Put]) -> None:
        await real(records)
        await real([replaced(record, value=record.value.rstrip(b"\0")) for record in records])

    instead(backend.store, "put")(put)


@saboteur("S13")
def what_was_put_first_stays(backend: MemoryBackend) -> None:
    async def put(real: Any, records: Sequence[Put]) -> None:
        known = await backend.store.get([record.key for record in records])
        await real([record for record, old in zip(records, known, strict=True) if old is None])

    instead(backend.store, "put")(put)


@saboteur("S13")
def what_is_put_keeps_the_time_to_live_of_before(backend: MemoryBackend) -> None:
    async def put(real: Any, records: Sequence[Put]) -> None:
        ends = {each.key: backend.world.records.ends.get(each.key) for each in records}
        await real(records)
        backend.world.records.ends.update({key: end for key, end in ends.items() if end is not None})

    instead(backend.store, "put")(put)


@saboteur("S13")
def what_is_put_lives_at_least_as_long_as_before(backend: MemoryBackend) -> None:
    async def put(real: Any, records: Sequence[Put]) -> None:
        kept = backend.world.records
        endless = {each.key for each in records if await backend.store.get([each.key]) != [None]} - kept.ends.keys()
        await real([replaced(each, ttl=None if each.key in endless else each.ttl) for each in records])

    instead(backend.store, "put")(put)


@saboteur("S14")
def dropping_forgets_what_begins_alike(backend: MemoryBackend) -> None:
    async def drop(real: Any, keys: Sequence[Key]) -> None:
        await real([Key(run, name) for run, start in keys for name in await backend.store.names(run, start)])

    instead(backend.store, "drop")(drop)


@saboteur("S14")
def dropping_ends_at_what_is_not_there(backend: MemoryBackend) -> None:
    async def drop(real: Any, keys: Sequence[Key]) -> None:
        for key in keys:
            if await backend.store.get([key]) == [None]:
                return
            await real([key])

    instead(backend.store, "drop")(drop)


@saboteur("S15")
def of_two_additions_at_once_one_is_lost(backend: MemoryBackend) -> None:
    async def add(real: Any, key: Key, amount: int, ttl: timedelta | None = None) -> int:
        before = await real(key, 0, ttl)
        await anyio.lowlevel.checkpoint()
        backend.world.records.counters[key.run][key.name] = before
        counted: int = await real(key, amount, ttl)
        return counted

    instead(backend.store, "add")(add)


@saboteur("S15")
def an_addition_of_several_answers_the_sum_before_it(backend: MemoryBackend) -> None:
    async def add(real: Any, key: Key, amount: int, ttl: timedelta | None = None) -> Any:
        return await real(key, amount, ttl) - (amount if amount > 1 else 0)

    instead(backend.store, "add")(add)


@saboteur("S15")
def a_counter_stays_for_ever(backend: MemoryBackend) -> None:
    async def add(real: Any, key: Key, amount: int, ttl: timedelta | None = None) -> int:
        counted: int = await real(key, amount)
        return counted

    instead(backend.store, "add")(add)


@saboteur("S15")
def a_counter_has_the_time_to_live_of_its_first_addition(backend: MemoryBackend) -> None:
    async def add(real: Any, key: Key, amount: int, ttl: timedelta | None = None) -> int:
        ends, counter = backend.world.records.ends, Counter(*key)
        end = ends.get(counter)
        counted: int = await real(key, amount, ttl)
        if end is not None:
            ends[counter] = end
        return counted

    instead(backend.store, "add")(add)


@saboteur("S15")
def a_sweep_leaves_counters(backend: MemoryBackend) -> None:
    async def sweep(real: Any, run: str, limit: int) -> bool:
        counters = dict(backend.world.records.counters.pop(run, {}))
        done: bool = await real(run, limit)
        if counters:
            backend.world.records.counters[run] = counters
        return done

    instead(backend.store, "sweep")(sweep)
