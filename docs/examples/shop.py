from typing import Any

from motet import Motet, Priority, Term, group

app = Motet("sqlite:///shop.db")


@app.task(queue="till", priority=Priority.REALTIME)
async def price(item: str, quantity: int = 1) -> int:
    return {"tea": 4, "scone": 3, "jam": 2}[item] * quantity


@app.task
def total(prices: list[int]) -> int:
    return sum(prices)


def order(*items: str) -> Term[Any, int]:
    return group(price.s(item) for item in items) | total.s()
