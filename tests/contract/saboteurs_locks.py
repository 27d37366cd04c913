"""Saboteurs of port L."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import anyio.lowlevel
from harness import instead, saboteur

from motet.memory import MemoryBackend
from motet.ports import Busy, Grant, Holding, Lock


@saboteur("L1")
def what_stands_before_a_busy_lock_is_taken(backend: MemoryBackend) -> None:
    def acquire(real: Any, locks: Sequence[Lock], owner: str, lease: timedelta) -> Grant | Busy:
        for lock in locks:
            answer: Grant | Busy = real([lock], owner, lease)
            if isinstance(answer, Busy):
                return answer
        granted: Grant | Busy = real(locks, owner, lease)
        return granted

    instead(backend.world.holders, "acquire")(acquire)


@saboteur("L1")
def a_rate_is_spent_while_another_lock_is_busy(backend: MemoryBackend) -> None:
    def acquire(real: Any, locks: Sequence[Lock], owner: str, lease: timedelta) -> Grant | Busy:
        answer: Grant | Busy = real(locks, owner, lease)
        if isinstance(answer, Busy):
            real([lock for lock in locks if lock.kind == "rate"], owner, lease)
        return answer

    instead(backend.world.holders, "acquire")(acquire)


@saboteur("L2")
def a_fence_counts_the_grants_of_the_first_lock_only(backend: MemoryBackend) -> None:
    granted: dict[str, list[str]] = vars(backend.world).setdefault("granted", {})

    def acquire(real: Any, locks: Sequence[Lock], owner: str, lease: timedelta) -> Grant | Busy:
        answer: Grant | Busy = real(locks, owner, lease)
        if isinstance(answer, Busy):
            return answer
        owners = granted.setdefault(locks[0].name, [])
        if owner not in owners:
            owners.append(owner)
        return Grant(owners.index(owner) + 1)

    instead(backend.world.holders, "acquire")(acquire)


@saboteur("L2")
def fences_begin_again_when_leases_have_run_out(backend: MemoryBackend) -> None:
    holders = backend.world.holders

    def turn(real: Any) -> float:
        before = len(holders.locks)
        now: float = real()
        if before and not holders.locks:
            holders.fences = itertools.count(1)
        return now

    instead(holders, "turn")(turn)


@saboteur("L2")
def renewing_raises_the_fence(backend: MemoryBackend) -> None:
    holders = backend.world.holders

    def renew(real: Any, owner: str, lease: timedelta) -> bool:
        for holds in holders.locks.values():
            if owner in holds:
                holds[owner].fence = next(holders.fences)
        renewed: bool = real(owner, lease)
        return renewed

    instead(holders, "renew")(renew)


@saboteur("L3")
def a_dead_reader_stays(backend: MemoryBackend) -> None:
    def hold(real: Any, lock: Lock, name: str, owner: Any, until: float) -> None:
        real(lock, name, owner, float("1e9") if lock.kind == "read" else until)

    instead(backend.world.holders, "hold")(hold)


@saboteur("L3")
def a_dead_holder_keeps_its_place_of_a_semaphore(backend: MemoryBackend) -> None:
    def hold(real: Any, lock: Lock, name: str, owner: Any, until: float) -> None:
        real(lock, name, owner, float("1e9") if lock.kind == "semaphore" and lock.limit == 1 else until)

    instead(backend.world.holders, "hold")(hold)


@saboteur("L3")
def renewing_does_not_lengthen_the_lease(backend: MemoryBackend) -> None:
    def renew(real: Any, owner: str, lease: timedelta) -> bool:
        holds = [kept[owner] for kept in backend.world.holders.locks.values() if owner in kept]
        before = [hold.until for hold in holds]
        renewed: bool = real(owner, lease)
        for hold, until in zip(holds, before, strict=True):
            hold.until = until
        return renewed

    instead(backend.world.holders, "renew")(renew)


@saboteur("L4")
def a_stranger_renews(backend: MemoryBackend) -> None:
    def renew(real: Any, owner: str, lease: timedelta) -> bool:
        return real(owner, lease) or owner not in backend.world.holders.owners

    instead(backend.world.holders, "renew")(renew)


@saboteur("L4")
def a_late_owner_releases_the_heirs_lock(backend: MemoryBackend) -> None:
    holders = backend.world.holders
    names: dict[str, set[str]] = vars(backend.world).setdefault("names", {})

    def acquire(real: Any, locks: Sequence[Lock], owner: str, lease: timedelta) -> Grant | Busy:
        answer: Grant | Busy = real(locks, owner, lease)
        if isinstance(answer, Grant):
            names.setdefault(owner, set()).update(lock.name for lock in locks if lock.kind == "mutex")
        return answer

    def release(real: Any, owner: str) -> None:
        real(owner)
        for name in names.pop(owner, ()):
            holders.locks.pop(name, None)

    instead(holders, "acquire")(acquire)
    instead(holders, "release")(release)


@saboteur("L4")
def renewing_succeeds_while_anything_is_left(backend: MemoryBackend) -> None:
    def renew(real: Any, owner: str, lease: timedelta) -> bool:
        return real(owner, lease) or any(owner in holds for holds in backend.world.holders.locks.values())

    instead(backend.world.holders, "renew")(renew)


@saboteur("L5")
def the_windows_of_a_rate_stand_side_by_side(backend: MemoryBackend) -> None:
    def busy(real: Any, lock: Lock, name: str, owner: Any, now: float) -> float | None:
        uses = backend.world.holders.uses.get(lock.name)
        if lock.kind == "rate" and uses and name not in owner.spent:
            begun = now - now % lock.window.total_seconds()
            busy_now = sum(at >= begun for at, _ in uses) >= lock.limit
            return begun + lock.window.total_seconds() - now if busy_now else None
        left: float | None = real(lock, name, owner, now)
        return left

    instead(backend.world.holders, "busy")(busy)


@saboteur("L5")
def releasing_gives_a_use_back(backend: MemoryBackend) -> None:
    holders = backend.world.holders

    def release(real: Any, owner: str) -> None:
        for rate in holders.owners[owner].spent if owner in holders.owners else ():
            holders.uses[rate].pop()
        real(owner)

    instead(holders, "release")(release)


@saboteur("L5")
def a_busy_rate_is_to_be_asked_again_at_once(backend: MemoryBackend) -> None:
    def acquire(real: Any, locks: Sequence[Lock], owner: str, lease: timedelta) -> Grant | Busy:
        answer: Grant | Busy = real(locks, owner, lease)
        return Busy(answer.name, timedelta()) if isinstance(answer, Busy) and locks[0].kind == "rate" else answer

    instead(backend.world.holders, "acquire")(acquire)


def race(backend: MemoryBackend, kind: str) -> None:
    """Have those who ask for a lock of a kind at once all be granted it."""

    async def acquire(real: Any, locks: Sequence[Lock], owner: str, lease: timedelta) -> Grant | Busy:
        kept = {lock.name: dict(backend.world.holders.locks.get(lock.name, {})) for lock in locks if lock.kind == kind}
        await anyio.lowlevel.checkpoint()
        backend.world.holders.locks.update(kept)
        answer: Grant | Busy = await real(locks, owner, lease)
        return answer

    instead(backend.locks, "acquire")(acquire)


@saboteur("L6")
def of_two_who_want_a_mutex_at_once_both_get_it(backend: MemoryBackend) -> None:
    race(backend, "mutex")


@saboteur("L6")
def a_writer_does_not_see_the_last_reader(backend: MemoryBackend) -> None:
    def busy(real: Any, lock: Lock, name: str, owner: Any, now: float) -> float | None:
        holds = backend.world.holders.locks.get(lock.name, {})
        alone = lock.kind == "write" and [hold.kind for hold in holds.values()] == ["read"]
        left: float | None = real(lock, name, owner, now)
        return None if alone else left

    instead(backend.world.holders, "busy")(busy)


@saboteur("L6")
def a_reader_does_not_see_the_writer(backend: MemoryBackend) -> None:
    def busy(real: Any, lock: Lock, name: str, owner: Any, now: float) -> float | None:
        left: float | None = real(lock, name, owner, now)
        return None if lock.kind == "read" else left

    instead(backend.world.holders, "busy")(busy)


@saboteur("L6")
def readers_do_not_share(backend: MemoryBackend) -> None:
    def busy(real: Any, lock: Lock, name: str, owner: Any, now: float) -> float | None:
        if lock.kind == "read" and backend.world.holders.locks.get(lock.name, {}).keys() - {name}:
            return 1.0
        left: float | None = real(lock, name, owner, now)
        return left

    instead(backend.world.holders, "busy")(busy)


@saboteur("L7")
def of_those_who_want_a_place_at_once_all_get_it(backend: MemoryBackend) -> None:
    race(backend, "semaphore")


@saboteur("L7")
def a_semaphore_has_one_holder_too_many(backend: MemoryBackend) -> None:
    def busy(real: Any, lock: Lock, name: str, owner: Any, now: float) -> float | None:
        more = Lock(lock.name, lock.kind, lock.limit + 1) if lock.kind == "semaphore" else lock
        left: float | None = real(more, name, owner, now)
        return left

    instead(backend.world.holders, "busy")(busy)


@saboteur("L7")
def a_place_is_free_after_the_lease_only(backend: MemoryBackend) -> None:
    def let_go(real: Any, lock: str, name: str) -> None:
        hold = backend.world.holders.locks.get(lock, {}).get(name)
        if hold is None or hold.kind != "semaphore" or hold.until <= backend.world.clock.monotonic():
            real(lock, name)

    instead(backend.world.holders, "let_go")(let_go)


@saboteur("L8")
def acquiring_again_raises_the_fence(backend: MemoryBackend) -> None:
    instead(backend.world.holders, "fresh")(lambda real, *given: True)


@saboteur("L8")
def acquiring_again_does_not_renew(backend: MemoryBackend) -> None:
    def hold(real: Any, lock: Lock, name: str, owner: Any, until: float) -> None:
        before = backend.world.holders.locks.get(lock.name, {}).get(name)
        real(lock, name, owner, until if before is None else before.until)

    instead(backend.world.holders, "hold")(hold)


@saboteur("L8")
def acquiring_again_spends_a_rate_again(backend: MemoryBackend) -> None:
    def acquire(real: Any, locks: Sequence[Lock], name: str, lease: timedelta) -> Grant | Busy:
        owner = backend.world.holders.owners.get(name)
        if owner is not None:
            owner.spent.clear()
        answer: Grant | Busy = real(locks, name, lease)
        return answer

    instead(backend.world.holders, "acquire")(acquire)


@saboteur("L9")
def the_dead_are_listed(backend: MemoryBackend) -> None:
    dead: list[Holding] = vars(backend.world).setdefault("dead", [])

    def hold(real: Any, lock: Lock, name: str, owner: Any, until: float) -> None:
        dead.append(Holding(lock.name, name, owner.fence, timedelta(seconds=60)))
        real(lock, name, owner, until)

    def held(real: Any, prefix: str) -> Any:
        alive = real(prefix)
        names = {(each.name, each.owner) for each in alive}
        return alive + [each for each in dead if each.name.startswith(prefix) and (each.name, each.owner) not in names]

    instead(backend.world.holders, "hold")(hold)
    instead(backend.world.holders, "held")(held)


@saboteur("L9")
def rates_are_listed(backend: MemoryBackend) -> None:
    def held(real: Any, prefix: str) -> Any:
        rates = [Holding(rate, "", 1, timedelta(seconds=60)) for rate in backend.world.holders.uses]
        return real(prefix) + [each for each in rates if each.name.startswith(prefix)]

    instead(backend.world.holders, "held")(held)


@saboteur("L9")
def of_a_lock_one_holder_is_listed(backend: MemoryBackend) -> None:
    def held(real: Any, prefix: str) -> list[Holding]:
        return list({each.name: each for each in real(prefix)}.values())

    instead(backend.world.holders, "held")(held)


@saboteur("L10")
def the_owner_is_not_told_that_its_only_lock_was_taken(backend: MemoryBackend) -> None:
    def free(real: Any, lock: str) -> bool:
        for owner in backend.world.holders.owners.values():
            if owner.names == {lock}:
                owner.names.clear()
        freed: bool = real(lock)
        return freed

    instead(backend.world.holders, "free")(free)


@saboteur("L10")
def freeing_says_that_there_was_a_holder(backend: MemoryBackend) -> None:
    instead(backend.world.holders, "free")(lambda real, lock: real(lock) or True)
