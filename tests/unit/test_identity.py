import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.identity import ALPHABET, derive, shorten
from motet.ports.ambient import RandomIds


def test_new_ids_are_of_one_length_and_differ() -> None:
    ids = RandomIds()
    made = [ids.new() for _ in range(10_000)]

    assert {len(each) for each in made} == {22}
    assert set("".join(made)) == set(ALPHABET)
    assert len(set(made)) == len(made)


def test_a_later_id_is_greater() -> None:
    ids = RandomIds()
    earlier = ids.new()
    start = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == start:
        pass

    assert ids.new() > earlier


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it is about forks")
def test_a_forked_process_draws_ids_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = RandomIds()
    ids.new()
    monkeypatch.setattr(time, "time_ns", lambda: 0)  # the time is a part of an id, and would hide it
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.write(writing, ids.new().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)

    assert theirs not in {ids.new() for _ in range(200)}


@given(st.integers(min_value=0, max_value=62**22 - 1))
def test_a_number_can_be_read_back_from_its_letters(number: int) -> None:
    read = 0
    for letter in shorten(number):
        read = read * 62 + ALPHABET.index(letter)

    assert read == number


def test_derived_ids_stay_as_they_are() -> None:
    assert derive("run", 7, "s0") == "DmJsfJlQc62wyrdE8bG797"
