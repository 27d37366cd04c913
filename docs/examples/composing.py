import asyncio

from motet import Motet, group

app = Motet("memory://")


@app.task
async def price(item: str, quantity: int = 1) -> int:
    return {"tea": 4, "scone": 3, "jam": 2}[item] * quantity


@app.task
def total(prices: list[int]) -> int:
    return sum(prices)


@app.task
async def invoice(amount: int, customer: str) -> str:
    return f"{customer} owes {amount}"


order = group(price.s("tea", quantity=2), price.s("scone"), price.s("jam")) | total.s() | invoice.s("Ada")


async def main() -> None:
    async with app, app.worker():
        run = await order.submit()
        print(await run.result(timeout=5))
        for step in await run.children():
            print("step:", await step.result())


if __name__ == "__main__":
    asyncio.run(main())

# Output:
# Ada owes 13
# step: [8, 3, 2]
# step: 13
# step: Ada owes 13
