import asyncio

from motet import Context, ExponentialBackoff, Fail, Motet, TaskFailed, injected

app = Motet("memory://")


@app.task(retry_policy=ExponentialBackoff(0.1, max_retries=3), timeout=10)
async def charge(customer: str, amount: int, ctx: Context = injected) -> str:
    if amount > 1000:
        raise Fail("above the card's limit")  # no retry, whatever the policy says
    if ctx.attempt < 3:
        raise ConnectionError("the bank does not answer")
    return f"{customer} paid {amount}, attempt {ctx.attempt}"


async def main() -> None:
    async with app, app.worker():
        run = await charge.delay("Ada", 13)
        print(await run.result(timeout=5))

        run = await charge.delay("Bob", 5000)
        try:
            await run.result(timeout=5)
        except TaskFailed as failed:
            print(failed)
            print(failed.error.kind, failed.error.attempts, failed.error.arguments)


if __name__ == "__main__":
    asyncio.run(main())

# Output:
# Ada paid 13, attempt 3
# retries:charge failed: Fail: above the card's limit
# exception 1 {'customer': 'Bob', 'amount': 5000}
