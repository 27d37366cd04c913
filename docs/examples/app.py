import asyncio

from motet import Motet, group

app = Motet("sqlite:///motet.db")


@app.task
async def add(x: int, y: int) -> int:
    return x + y


@app.task
def total(numbers: list[int]) -> int:  # a plain function runs in a thread
    return sum(numbers)


async def main() -> None:
    async with app, app.worker():
        run = await (group(add.s(i, i) for i in range(100)) | total.s()).submit()
        print(await run.result(timeout=30))


if __name__ == "__main__":
    asyncio.run(main())

# Output:
# 9900
