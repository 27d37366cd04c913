import pytest
from shop import app, order, price

from motet import TaskFailed


def test_an_order_costs_the_sum_of_its_prices() -> None:
    assert order("tea", "scone").apply().result() == 7


def test_what_we_do_not_sell_ends_the_order() -> None:
    with pytest.raises(TaskFailed, match="KeyError"):
        order("tea", "cake").apply().result()


@pytest.mark.anyio
async def test_prices_come_in_the_order_of_the_items() -> None:
    async with app, app.worker(queues=("till", "default")):
        run = await app.submit_many([price.s("jam"), price.s("tea", quantity=2)])
        assert [await each.result(timeout=5) for each in run] == [2, 8]
