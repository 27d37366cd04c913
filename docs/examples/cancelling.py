import asyncio

from motet import Motet, TaskCancelled, group

app = Motet("memory://")


@app.task
async def bake(cake: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return cake


@app.task
async def ice(cakes: list[str]) -> str:
    return f"iced {len(cakes)} cakes"


async def main() -> None:
    async with app, app.worker():
        run = await (group(bake.s("sponge", 0.2), bake.s("fruit", 3600)) | ice.s()).submit()
        async for progress in run:
            print(f"{progress.done} of {progress.total} calls have ended")
            if progress.done == 1:
                await run.cancel("the party is off")
                break
        try:
            await run.result(timeout=5)
        except TaskCancelled as cancelled:
            print(cancelled.reason)
        header, body = await run.children()
        print((await header.status()).state, (await body.status()).state)


if __name__ == "__main__":
    asyncio.run(main())

# Output:
# 0 of 3 calls have ended
# 1 of 3 calls have ended
# the party is off
# skipped skipped
