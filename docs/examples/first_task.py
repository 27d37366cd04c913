import asyncio

from motet import Motet

app = Motet("memory://")


@app.task
async def price(item: str, quantity: int = 1) -> int:
    return {"tea": 4, "scone": 3, "jam": 2}[item] * quantity


async def main() -> None:
    async with app, app.worker():
        run = await price.delay("tea", quantity=2)
        print(await run.result(timeout=5))
    print(await price("jam"))  # a plain call stays a plain call


if __name__ == "__main__":
    asyncio.run(main())

# Output:
# 8
# 2
