"""Saboteurs of port T, but for keyed publishes."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import anyio.lowlevel
import msgspec
from harness import instead, quiet, saboteur

from motet.memory import MemoryBackend
from motet.message import Parcel
from motet.ports import QueueInfo

# T1: what was published survives its sender.


@saboteur("T1")
def a_sender_that_leaves_takes_what_it_published_along(backend: MemoryBackend) -> None:
    letters: Any = backend.world.letters
    sent: list[Parcel] = []

    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        await original(parcels)
        sent.extend(parcels)

    @instead(backend, "close")
    def close(original: Any) -> None:
        for letter in [letters.all[parcel.id] for parcel in sent if parcel.id in letters.all]:
            if not letter.receipt:
                letters.withdraw(letter)
        original()


# T2, T3: leases.


@saboteur("T2")
def what_was_taken_without_waiting_is_visible_to_others(backend: MemoryBackend) -> None:
    polled: list[tuple[Any, Any]] = backend.world.__dict__.setdefault("polled", [])

    @instead(backend.transport, "receive")
    async def receive(original: Any, lanes: Any, limit: int, wait: timedelta, **options: Any) -> Any:
        taken = await original(lanes, limit, wait, **options)
        polled.extend((backend, each) for each in taken if not wait)
        others = [each for holder, each in polled if holder is not backend and backend.world.letters.holds(each)]
        return taken or ([] if wait else [each for each in others if each.lane in lanes])


@saboteur("T2")
def who_asks_again_is_given_what_it_published_and_holds(backend: MemoryBackend) -> None:
    sent: set[str] = set()
    held: list[Any] = []

    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        await original(parcels)
        sent.update(parcel.id for parcel in parcels)

    @instead(backend.transport, "receive")
    async def receive(original: Any, lanes: Any, limit: int, wait: timedelta, **options: Any) -> Any:
        taken = await original(lanes, limit, wait, **options)
        again = [each for each in held if each.lane in lanes and backend.world.letters.holds(each)]
        held.extend(each for each in taken if each.id in sent)
        return taken or ([] if wait else again)


@saboteur("T3")
def what_comes_back_is_not_charged_unless_it_was_struck(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "reap")
    def reap(original: Any) -> None:
        held = list(backend.world.letters.held.values())
        original()
        for letter in held:
            letter.deliveries -= not letter.receipt and not letter.strikes


@saboteur("T3")
def what_comes_back_looks_fresh_unless_it_was_struck(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "reap")
    def reap(original: Any) -> None:
        held = list(backend.world.letters.held.values())
        original()
        for letter in held:
            letter.suspect = letter.strikes > 0


@saboteur("T3")
def what_comes_back_takes_its_time(backend: MemoryBackend) -> None:
    letters: Any = backend.world.letters

    @instead(letters, "reap")
    def reap(original: Any) -> None:
        oldest = min((letter.until for letter in letters.held.values()), default=0.0)
        if letters.clock.monotonic() >= oldest + 3:
            original()
        else:
            letters.next_expiry = oldest + 3


@saboteur("T3")
def a_lease_that_nobody_renews_ends_early(backend: MemoryBackend) -> None:
    letters: Any = backend.world.letters

    @instead(letters, "take")
    def take(original: Any, *args: Any, **kwargs: Any) -> Any:
        taken = original(*args, **kwargs)
        for delivery in taken:
            letters.held[delivery.receipt].until -= letters.lease * 0.4
            letters.next_expiry = min(letters.next_expiry, letters.held[delivery.receipt].until)
        return taken


# T4: order.


@saboteur("T4")
def lanes_come_in_the_order_of_their_priorities(backend: MemoryBackend) -> None:
    @instead(backend.transport, "receive")
    async def receive(original: Any, lanes: Any, *args: Any, **options: Any) -> Any:
        return await original(sorted(lanes, key=lambda lane: lane.priority), *args, **options)


@saboteur("T4")
def what_is_published_alone_goes_to_the_front(backend: MemoryBackend) -> None:
    letters: Any = backend.world.letters

    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        await original(parcels)
        if len(parcels) == 1 and (queue := letters.lanes.get(parcels[0].lane)) and queue[-1].parcel is parcels[0]:
            queue.rotate()


@saboteur("T4")
def a_batch_is_queued_in_the_order_of_its_ids(backend: MemoryBackend) -> None:
    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        await original(sorted(parcels, key=lambda parcel: parcel.id) if len(parcels) > 10 else parcels)


@saboteur("T4")
def no_lane_means_every_lane(backend: MemoryBackend) -> None:
    @instead(backend.transport, "receive")
    async def receive(original: Any, lanes: Any, *args: Any, **options: Any) -> Any:
        return await original(lanes or list(backend.world.letters.lanes), *args, **options)


# T5, T6: receiving.


@saboteur("T5")
def what_a_cancelled_receive_had_taken_is_gone(backend: MemoryBackend) -> None:
    @instead(backend.transport, "receive")
    async def receive(original: Any, *args: Any, **options: Any) -> Any:
        taken = await original(*args, **options)
        try:
            await anyio.lowlevel.checkpoint()
        except BaseException:
            for delivery in taken:
                backend.world.letters.forget(delivery)
            raise
        return taken


@saboteur("T6")
def a_publish_does_not_wake_who_waits(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "publish")
    def publish(original: Any, parcels: Any) -> None:
        if any(parcel.due is not None for parcel in parcels):
            original(parcels)
            return
        with quiet(backend.world.letters):
            original(parcels)


@saboteur("T6")
def a_publish_wakes_one_of_those_who_wait(backend: MemoryBackend) -> None:
    letters: Any = backend.world.letters

    @instead(letters, "publish")
    def publish(original: Any, parcels: Any) -> None:
        with quiet(letters):
            original(parcels)
        for event in list(letters.receivers)[: None if len(parcels) == 1 else 1]:
            event.set()


@saboteur("T6")
def a_long_lane_is_read_one_too_far(backend: MemoryBackend) -> None:
    letters: Any = backend.world.letters

    @instead(letters, "take")
    def take(original: Any, lanes: Any, limit: int, **options: Any) -> Any:
        longest = max((len(letters.lanes.get(lane, ())) for lane in lanes), default=0)
        return original(lanes, limit + (longest > limit > 1), **options)


@saboteur("T6")
def a_wait_of_less_than_a_second_is_none(backend: MemoryBackend) -> None:
    @instead(backend.transport, "receive")
    async def receive(original: Any, lanes: Any, limit: int, wait: timedelta, **options: Any) -> Any:
        return await original(lanes, limit, timedelta(seconds=wait // timedelta(seconds=1)), **options)


@saboteur("T6")
def a_wait_that_ends_with_nothing_lasts_another_five_seconds(backend: MemoryBackend) -> None:
    @instead(backend.transport, "receive")
    async def receive(original: Any, lanes: Any, limit: int, wait: timedelta, **options: Any) -> Any:
        return await original(lanes, limit, wait + timedelta(seconds=5) if wait else wait, **options)


# T7: giving back.


@saboteur("T7")
def a_release_is_charged(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "give_back")
    def give_back(original: Any, delivery: Any, delay: timedelta) -> None:
        backend.world.letters.held[delivery.receipt].deliveries += 1
        original(delivery, delay)


@saboteur("T7", fault="doubled")
def a_release_is_credited_as_often_as_it_arrives(backend: MemoryBackend) -> None:
    letters: Any = backend.world.letters

    @instead(backend.transport, "release")
    async def release(original: Any, deliveries: Any, *delay: timedelta) -> None:
        for letter in [letters.all[each.id] for each in deliveries if not letters.holds(each)]:
            letter.deliveries -= not letter.receipt
        await original(deliveries, *delay)


@saboteur("T7")
def a_release_of_several_waits(backend: MemoryBackend) -> None:
    @instead(backend.transport, "release")
    async def release(original: Any, deliveries: Any, delay: timedelta = timedelta()) -> None:
        await original(deliveries, delay or timedelta(seconds=6 if len(deliveries) > 1 else 0))


@saboteur("T7")
def the_delay_of_a_release_is_forgotten(backend: MemoryBackend) -> None:
    @instead(backend.transport, "release")
    async def release(original: Any, deliveries: Any, delay: timedelta = timedelta()) -> None:
        await original(deliveries)


# T8, T9: holders old and new.


def heir(letters: Any, receipt: str) -> Any:
    """Find who holds a message now that was delivered under a receipt; nobody if that receipt is good."""
    name = receipt.rpartition("#")[0]
    letter = letters.all.get(name)
    return None if letter is None or not letter.receipt or letter.receipt == receipt else letter


@saboteur("T8")
def a_late_ack_forgets_what_another_holds(backend: MemoryBackend) -> None:
    letters: Any = backend.world.letters

    @instead(backend.transport, "ack")
    async def ack(original: Any, deliveries: Any) -> None:
        for each in deliveries:
            if (letter := heir(letters, each.receipt)) is not None:
                del letters.held[letter.receipt], letters.all[each.id]
        await original(deliveries)


@saboteur("T8")
def a_late_release_gives_back_what_another_holds(backend: MemoryBackend) -> None:
    letters: Any = backend.world.letters

    @instead(backend.transport, "release")
    async def release(original: Any, deliveries: Any, *delay: timedelta) -> None:
        found = [(each, heir(letters, each.receipt)) for each in deliveries]
        await original(
            [msgspec.structs.replace(each, receipt=it.receipt) if it else each for each, it in found], *delay
        )


@saboteur("T8")
def a_late_extend_is_told_that_it_holds_what_another_holds(backend: MemoryBackend) -> None:
    letters: Any = backend.world.letters

    @instead(backend.transport, "extend")
    def extend(original: Any, receipts: Any) -> list[bool]:
        return [
            kept or heir(letters, each) is not None for kept, each in zip(original(receipts), receipts, strict=True)
        ]


@saboteur("T9")
def extending_from_another_thread_is_not_heard(backend: MemoryBackend) -> None:
    @instead(backend.transport, "extend")
    def extend(original: Any, receipts: Any) -> list[bool]:
        if threading.current_thread() is threading.main_thread():
            kept: list[bool] = original(receipts)
            return kept
        return ["#" in receipt for receipt in receipts]


@saboteur("T9")
def what_is_no_receipt_is_said_to_be_held(backend: MemoryBackend) -> None:
    @instead(backend.transport, "extend")
    def extend(original: Any, receipts: Any) -> list[bool]:
        return [kept or "#" not in each for kept, each in zip(original(receipts), receipts, strict=True)]


@saboteur("T9")
def a_lease_that_ran_out_can_be_extended_while_nobody_has_taken_the_message(backend: MemoryBackend) -> None:
    letters: Any = backend.world.letters

    @instead(backend.transport, "extend")
    def extend(original: Any, receipts: Any) -> list[bool]:
        return [kept or each in letters.held for kept, each in zip(original(receipts), receipts, strict=True)]


# T10: an id is published once.


@saboteur("T10")
def of_an_id_that_a_batch_names_twice_the_last_body_is_kept(backend: MemoryBackend) -> None:
    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        await original(list({parcel.id: parcel for parcel in parcels}.values()))


@saboteur("T10")
def publishing_what_is_parked_makes_it_ready(backend: MemoryBackend) -> None:
    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        letters = backend.world.letters
        for parcel in parcels:
            if parcel.due is None and (letter := letters.all.get(parcel.id)) is not None and letter.parked:
                letters.withdraw(letter)
        await original(parcels)


@saboteur("T10")
def an_id_is_looked_for_in_lanes_of_its_size_only(backend: MemoryBackend) -> None:
    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        letters: Any = backend.world.letters
        for parcel in parcels:
            letter = letters.all.get(parcel.id)
            if letter is not None and letter.parcel.lane.size != parcel.lane.size:
                letters.enqueue(type(letter)(parcel))
        await original(parcels)


@saboteur("T10")
def what_others_published_is_queued_again_while_it_is_held(backend: MemoryBackend) -> None:
    mine: set[str] = set()

    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        letters: Any = backend.world.letters
        for parcel in parcels:
            letter = letters.all.get(parcel.id)
            if letter is not None and letter.receipt and parcel.id not in mine:
                letters.enqueue(type(letter)(parcel))
        mine.update(parcel.id for parcel in parcels if parcel.id not in letters.all)
        await original(parcels)


@saboteur("T10")
def an_id_that_was_acknowledged_cannot_come_again(backend: MemoryBackend) -> None:
    gone: set[str] = backend.world.__dict__.setdefault("gone", set())

    @instead(backend.transport, "ack")
    async def ack(original: Any, deliveries: Any) -> None:
        await original(deliveries)
        gone.update(each.id for each in deliveries)

    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        await original([parcel for parcel in parcels if parcel.id not in gone])


# T11: strikes.


@saboteur("T11")
def a_release_of_several_is_a_strike_for_each(backend: MemoryBackend) -> None:
    @instead(backend.transport, "release")
    async def release(original: Any, deliveries: Any, *delay: timedelta) -> None:
        for each in deliveries if len(deliveries) > 1 else ():
            await backend.transport.strike(each)
        await original(deliveries, *delay)


@saboteur("T11")
def a_release_of_several_forgets_their_strikes(backend: MemoryBackend) -> None:
    @instead(backend.transport, "release")
    async def release(original: Any, deliveries: Any, *delay: timedelta) -> None:
        for each in deliveries if len(deliveries) > 1 else ():
            backend.world.letters.all[each.id].strikes = 0
        await original(deliveries, *delay)


@saboteur("T11")
def who_lost_a_message_can_strike_it(backend: MemoryBackend) -> None:
    @instead(backend.transport, "strike")
    async def strike(original: Any, delivery: Any) -> int:
        if (letter := heir(backend.world.letters, delivery.receipt)) is not None:
            letter.strikes += 1
            return int(letter.strikes)
        return int(await original(delivery))


# T12, T16: pausing.


@saboteur("T12")
def pausing_takes_back_what_is_held(backend: MemoryBackend) -> None:
    @instead(backend.transport, "pause")
    async def pause(original: Any, queue: str, *, paused: bool = True) -> None:
        for letter in backend.world.letters.held.values():
            if paused and letter.parcel.lane.queue == queue:
                letter.until = 0.0
        await original(queue, paused=paused)


@saboteur("T12")
def what_comes_into_a_paused_queue_is_delivered(backend: MemoryBackend) -> None:
    letters: Any = backend.world.letters
    stopped: set[Any] = backend.world.__dict__.setdefault("stopped", set())

    @instead(backend.transport, "pause")
    async def pause(original: Any, queue: str, *, paused: bool = True) -> None:
        await original(queue, paused=paused)
        lanes = {lane for lane in letters.lanes if lane.queue == queue}
        (stopped.update if paused else stopped.difference_update)(lanes)

    @instead(letters, "take")
    def take(original: Any, lanes: Any, limit: int, *, paused: bool = False) -> Any:
        later = [lane for lane in lanes if lane.queue in letters.paused and lane not in stopped]
        return [*original(lanes, limit, paused=paused), *original(later, limit, paused=True)]


@saboteur("T12")
def resuming_wakes_nobody(backend: MemoryBackend) -> None:
    @instead(backend.transport, "pause")
    async def pause(original: Any, queue: str, *, paused: bool = True) -> None:
        with quiet(backend.world.letters):
            await original(queue, paused=paused)


@saboteur("T16")
def one_lane_of_a_paused_queue_can_be_emptied(backend: MemoryBackend) -> None:
    @instead(backend.transport, "receive")
    async def receive(original: Any, lanes: Any, *args: Any, paused: bool = False) -> Any:
        return await original(lanes[:1] if paused else lanes, *args, paused=paused)


@saboteur("T16")
def emptying_a_paused_queue_resumes_it(backend: MemoryBackend) -> None:
    @instead(backend.transport, "receive")
    async def receive(original: Any, lanes: Any, *args: Any, paused: bool = False) -> Any:
        taken = await original(lanes, *args, paused=paused)
        if paused and taken:
            backend.world.letters.paused.discard(taken[0].lane.queue)
        return taken


# T13, T15: looking at queues.


@saboteur("T13")
def a_run_is_found_by_the_beginning_of_its_name(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "find")
    def find(original: Any, run: str) -> str | None:
        names = {name.partition(":")[0] for name in backend.world.letters.all}
        longer = [name for name in names if name.startswith(run) and name[len(run) :].isalpha()]
        found: str | None = original(run) or (original(longer[0]) if longer else None)
        return found


@saboteur("T13")
def a_run_is_what_stands_before_the_last_colon(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "find")
    def find(original: Any, run: str) -> str | None:
        names = {name.rpartition(":")[0] for name in backend.world.letters.all}
        return original(run) if run in names else None


@saboteur("T13")
def a_parked_message_is_said_to_be_queued(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "find")
    def find(original: Any, run: str) -> str | None:
        found: str | None = original(run)
        return "queued" if found == "parked" else found


@saboteur("T14")
def what_is_published_for_later_is_delivered_as_fresh(backend: MemoryBackend) -> None:
    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        await original(parcels)
        for parcel in parcels:
            if parcel.due is not None and not parcel.suspect:
                backend.world.letters.all[parcel.id].suspect = False


@saboteur("T14")
def only_the_first_of_a_batch_can_be_suspect(backend: MemoryBackend) -> None:
    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        fresh = [msgspec.structs.replace(parcel, suspect=False) for parcel in parcels[1:]]
        await original([*parcels[:1], *fresh])


@saboteur("T14")
def a_suspect_makes_its_batch_suspect(backend: MemoryBackend) -> None:
    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        any_suspect = any(parcel.suspect for parcel in parcels)
        await original([msgspec.structs.replace(parcel, suspect=any_suspect) for parcel in parcels])


@saboteur("T15")
def a_queue_of_ready_messages_only_is_not_listed(backend: MemoryBackend) -> None:
    @instead(backend.transport, "queues")
    async def queues(original: Any) -> Any:
        return [each for each in await original() if each.held or each.parked or each.paused]


@saboteur("T15")
def one_ready_message_is_counted_for_each_queue(backend: MemoryBackend) -> None:
    @instead(backend.transport, "queues")
    async def queues(original: Any) -> Any:
        return [msgspec.structs.replace(each, ready=min(each.ready, 1)) for each in await original()]


@saboteur("T15")
def an_empty_queue_is_listed_only_to_who_paused_it(backend: MemoryBackend) -> None:
    mine: set[str] = set()

    @instead(backend.transport, "pause")
    async def pause(original: Any, queue: str, *, paused: bool = True) -> None:
        mine.add(queue)
        await original(queue, paused=paused)

    @instead(backend.transport, "queues")
    async def queues(original: Any) -> Any:
        return [each for each in await original() if each.ready or each.held or each.parked or each.queue in mine]


@saboteur("T15")
def a_queue_that_was_paused_is_listed_for_ever(backend: MemoryBackend) -> None:
    known: set[str] = backend.world.__dict__.setdefault("known", set())

    @instead(backend.transport, "pause")
    async def pause(original: Any, queue: str, *, paused: bool = True) -> None:
        known.add(queue)
        await original(queue, paused=paused)

    @instead(backend.transport, "queues")
    async def queues(original: Any) -> Any:
        found = await original()
        return [*found, *(QueueInfo(queue, 0, 0, 0) for queue in known - {each.queue for each in found})]


# T17: moving.


def moved(letters: Any, source: str, limit: int) -> list[Any]:
    """List what a move is about to bring elsewhere."""
    ready = [each for each in letters.all.values() if not each.parked and not each.receipt]
    return [each for each in ready if each.parcel.lane.queue == source][:limit]


@saboteur("T17")
def a_move_brings_one_more_than_was_asked_for(backend: MemoryBackend) -> None:
    @instead(backend.transport, "move")
    async def move(original: Any, source: str, target: str, limit: int) -> int:
        return int(await original(source, target, limit + 1))


@saboteur("T17")
def a_move_brings_what_is_parked_too(backend: MemoryBackend) -> None:
    @instead(backend.transport, "move")
    async def move(original: Any, source: str, target: str, limit: int) -> int:
        for letter in backend.world.letters.all.values():
            lane = letter.parcel.lane
            if letter.parked and lane.queue == source:
                letter.parcel = msgspec.structs.replace(letter.parcel, lane=lane._replace(queue=target))
        return int(await original(source, target, limit))


@saboteur("T17")
def a_move_forgets_the_lanes(backend: MemoryBackend) -> None:
    @instead(backend.transport, "move")
    async def move(original: Any, source: str, target: str, limit: int) -> int:
        letters: Any = backend.world.letters
        for letter in moved(letters, source, limit):
            lane = letter.parcel.lane
            letters.lanes[lane].remove(letter)
            letter.parcel = msgspec.structs.replace(letter.parcel, lane=lane._replace(priority=0))
            letters.enqueue(letter)
        return int(await original(source, target, limit))


@saboteur("T17")
def what_is_moved_begins_to_count_anew(backend: MemoryBackend) -> None:
    @instead(backend.transport, "move")
    async def move(original: Any, source: str, target: str, limit: int) -> int:
        for letter in moved(backend.world.letters, source, limit):
            letter.strikes = 0
        return int(await original(source, target, limit))


@saboteur("T17")
def what_is_moved_can_be_published_again(backend: MemoryBackend) -> None:
    strays: set[str] = backend.world.__dict__.setdefault("strays", set())

    @instead(backend.transport, "move")
    async def move(original: Any, source: str, target: str, limit: int) -> int:
        strays.update(letter.parcel.id for letter in moved(backend.world.letters, source, limit))
        return int(await original(source, target, limit))

    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        letters: Any = backend.world.letters
        for letter in [letters.all[parcel.id] for parcel in parcels if parcel.id in strays]:
            letters.enqueue(type(letter)(letter.parcel))
        await original(parcels)


# T18: bodies.


def rewrite(backend: MemoryBackend, change: Any) -> None:
    """Change the body of whatever is published."""

    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        proper = all(type(parcel.body) is bytes for parcel in parcels)
        changed = [msgspec.structs.replace(parcel, body=change(parcel.body)) for parcel in parcels if proper]
        await original(changed or parcels)


@saboteur("T18")
def a_body_that_begins_like_utf_16_is_read_as_text(backend: MemoryBackend) -> None:
    rewrite(backend, lambda body: body.removeprefix(b"\xff\xfe"))


@saboteur("T18")
def a_body_of_512_kib_loses_its_last_byte(backend: MemoryBackend) -> None:
    rewrite(backend, lambda body: body[: 512 * 1024 - 1])


@saboteur("T18")
def no_body_is_delivered_as_a_nul(backend: MemoryBackend) -> None:
    rewrite(backend, lambda body: body or b"\0")
