"""Clauses X1 to X7: what was given up is kept with its reason, and replayed at most once."""

from __future__ import annotations

from datetime import datetime, timedelta

import anyio
import anyio.lowlevel
import msgspec

from motet.conformance.contract import Contract, proves
from motet.conformance.stage import Stage
from motet.message import DeadLetter
from motet.options import Lane
from motet.outcome import ErrorInfo
from motet.ports import Filter
from motet.program import Bury

__all__ = ["DeadLettersContract"]


def letter(
    stage: Stage,
    name: str,
    age: float = 0.0,
    *,
    task: str = "app:task",
    kind: str = "exception",
    lane: Lane | None = None,
) -> DeadLetter:
    """Make a dead letter; `age` in seconds."""
    moment = stage.clock.now() - timedelta(seconds=age)
    at = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    error = ErrorInfo(kind=kind, type="ValueError", message="no \u2603", task=task, arguments={"x": [1, None]})
    return DeadLetter(stage.id(name), lane or stage.high, task, b"\x00\xff body", error, at, "an earlier run")


async def buried(stage: Stage, *letters: DeadLetter) -> None:
    """Bury letters, each by a settlement of its own."""
    for each in letters:
        await stage.settle(stage.a, Bury(each))


async def listed(stage: Stage, chosen: Filter, size: int = 100) -> list[str]:
    """Page through the letters of this stage."""
    found: list[DeadLetter] = []
    after: str | None = None
    while page := await stage.b.deadletters.page(chosen, after, size):
        assert len(page) <= size
        after = page[-1].id
        found += [each for each in page if each.id.startswith(stage.run)]
    return stage.named([each.id for each in found])


def instant(stage: Stage, age: float) -> datetime:
    """Return the instant so many seconds ago."""
    return stage.clock.now() - timedelta(seconds=age)


class DeadLettersContract(Contract):
    """Port X."""

    @proves("X1")
    async def test_x1_what_was_buried_is_found_whole(self, stage: Stage) -> None:
        given = letter(stage, ":1")
        async with stage.client() as dying:
            await stage.settle(dying, Bury(given))

        assert await stage.b.deadletters.get([given.id, stage.id(":2")]) == [given, None]
        assert await listed(stage, Filter(queue=stage.queue)) == [":1"]

    @proves("X1")
    async def test_x1_the_method_buries_as_the_op_does(self, stage: Stage) -> None:
        given = [letter(stage, ":1", 1), letter(stage, ":2", lane=stage.aside)]
        async with stage.client() as dying:
            await dying.deadletters.bury(given)

        assert await stage.b.deadletters.get([each.id for each in given]) == given

    @proves("X1")
    async def test_x1_a_letter_is_buried_with_the_acknowledgement(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1")])
        taken = await stage.one(stage.a)

        await stage.settle(stage.a, Bury(letter(stage, ":1")), delivery=taken)

        assert [each is None for each in await stage.b.deadletters.get([taken.id])] == [False]
        assert await stage.b.transport.find([stage.run]) == [None]

    @proves("X2")
    async def test_x2_the_first_reason_stands(self, stage: Stage) -> None:
        await buried(stage, letter(stage, ":1", 5, kind="timeout"), letter(stage, ":2", 3))
        kept = await stage.b.deadletters.get([stage.id(":1")])

        await buried(stage, letter(stage, ":1", 0, kind="exception"))
        await stage.a.deadletters.bury([letter(stage, ":1", 0, kind="exception")])

        assert [each and each.error.kind for each in kept] == ["timeout"]
        assert await stage.b.deadletters.get([stage.id(":1")]) == kept
        assert await listed(stage, Filter(queue=stage.queue)) == [":2", ":1"]

    @proves("X3", repeats=False)
    async def test_x3_pages_go_from_the_newest_and_miss_nothing(self, stage: Stage) -> None:
        await buried(stage, *(letter(stage, f":{number}", 100 - number) for number in (3, 1, 0, 2, 4)))
        chosen = Filter(queue=stage.queue)
        assert await listed(stage, chosen, 2) == [":4", ":3", ":2", ":1", ":0"]
        first = await stage.b.deadletters.page(chosen, None, 2)

        await buried(stage, letter(stage, ":5", 2), letter(stage, ":6", 1))
        await stage.a.deadletters.remove([first[0].id])

        rest = await stage.b.deadletters.page(chosen, first[-1].id, 10)
        assert stage.named([each.id for each in rest]) == [":2", ":1", ":0"]

    @proves("X3", repeats=False)
    async def test_x3_removing_what_was_listed_hides_nothing(self, stage: Stage) -> None:
        await buried(stage, *(letter(stage, f":{number}", 100 - number) for number in range(5)))
        chosen = Filter(queue=stage.queue)
        first = await stage.b.deadletters.page(chosen, None, 2)
        await stage.b.deadletters.remove([each.id for each in first])

        rest = await stage.b.deadletters.page(chosen, first[-1].id, 10)

        assert stage.named([each.id for each in rest]) == [":2", ":1", ":0"]

    @proves("X3")
    async def test_x3_letters_of_the_same_moment_are_all_listed(self, stage: Stage) -> None:
        moment = letter(stage, ":0").at
        await buried(stage, *(msgspec.structs.replace(letter(stage, f":{number}"), at=moment) for number in range(4)))
        await buried(stage, letter(stage, ":old", 300))

        found = await listed(stage, Filter(queue=stage.queue), 1)

        assert (sorted(found[:4]), found[4:]) == ([":0", ":1", ":2", ":3"], [":old"])

    @proves("X4")
    async def test_x4_a_filter_chooses_by_all_that_it_names(self, stage: Stage) -> None:
        await buried(
            stage,
            letter(stage, ":old", 300),
            letter(stage, ":aside", 60, lane=stage.aside),
            letter(stage, ":task", 90, task="app:other"),
            letter(stage, ":kind", 80, kind="timeout"),
            letter(stage, ":both", 70, task="app:other", kind="timeout"),
        )

        assert await listed(stage, Filter(queue=stage.other)) == [":aside"]
        assert await listed(stage, Filter(queue=stage.queue, task="app:other")) == [":both", ":task"]
        assert await listed(stage, Filter(queue=stage.queue, kind="timeout"), 1) == [":both", ":kind"]
        assert await listed(stage, Filter(queue=stage.queue, task="app:other", kind="timeout")) == [":both"]
        assert await listed(stage, Filter(queue=stage.queue, since=instant(stage, 85))) == [":both", ":kind"]
        assert await listed(stage, Filter(queue=stage.queue, before=instant(stage, 200))) == [":old"]

    @proves("X4")
    async def test_x4_since_is_included_and_before_is_not(self, stage: Stage) -> None:
        given = letter(stage, ":1", 10)
        await buried(stage, given)

        assert await listed(stage, Filter(queue=stage.queue, since=given.at)) == [":1"]
        assert await listed(stage, Filter(queue=stage.queue, before=given.at)) == []

    @proves("X5")
    async def test_x5_c11_a_letter_is_replayed_once_whoever_presses(self, stage: Stage) -> None:
        given, other = letter(stage, ":1"), letter(stage, ":2")
        await buried(stage, given, other)
        answers: list[bool] = []

        async def press(number: int) -> None:
            # A replay is a run of its own, whose id derives from the letter's: two presses mean the same parcel.
            again = stage.parcel("again:1", body=given.body)
            answers.extend(await (stage.a, stage.b)[number % 2].deadletters.replay([(given.id, again)]))

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(press, number)

        assert sorted(answers) == [False] * 5 + [True]
        taken = await stage.one(stage.b)
        assert (stage.named([taken.id]), taken.body) == (["again:1"], given.body)
        await stage.b.transport.ack([taken])
        assert await stage.a.deadletters.replay([(given.id, stage.parcel("again:1"))]) == [False]
        assert await stage.taken(stage.b) == []
        assert [each and each.id for each in await stage.b.deadletters.get([given.id, other.id])] == [None, other.id]

    @proves("X5", repeats=False)
    async def test_x5_a_replay_that_is_cancelled_can_be_repeated(self, stage: Stage) -> None:
        for moment in range(8):
            given, again = letter(stage, f":{moment}"), stage.parcel(f"again.{moment}:1")
            await buried(stage, given)
            async with anyio.create_task_group() as group:
                group.start_soon(stage.a.deadletters.replay, [(given.id, again)])
                for _ in range(moment):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()

            # What is still on its way arrives before this: a backend keeps the order of one client's calls.
            await stage.a.deadletters.replay([(given.id, again)])

            assert stage.named([(await stage.one(stage.b)).id]) == [f"again.{moment}:1"]

    @proves("X6")
    async def test_x6_remove_forgets_letters_and_says_which(self, stage: Stage) -> None:
        await buried(stage, *(letter(stage, f":{number}", 10 - number) for number in range(3)))

        asked = [stage.id(name) for name in (":1", ":9", ":0")]
        assert await stage.b.deadletters.remove(asked) == [True, False, True]

        assert await listed(stage, Filter(queue=stage.queue)) == [":2"]

    @proves("X7", repeats=False)
    async def test_x7_purge_forgets_the_oldest_that_a_filter_chooses(self, stage: Stage) -> None:
        await buried(stage, *(letter(stage, f":{number}", 100 - number * 10) for number in range(5)))
        await buried(stage, letter(stage, ":aside", 200, lane=stage.aside))
        old = Filter(queue=stage.queue, before=instant(stage, 65))

        assert await stage.b.deadletters.purge(old, 2) == 2
        assert await listed(stage, Filter(queue=stage.queue)) == [":4", ":3", ":2"]
        assert await stage.b.deadletters.purge(old, 9) == 2
        assert await stage.b.deadletters.purge(old, 9) == 0

        assert await listed(stage, Filter(queue=stage.queue)) == [":4"]
        assert await listed(stage, Filter(queue=stage.other)) == [":aside"]
