from motet import ErrorInfo, Motet, group

app = Motet("memory://")


@app.task
async def fetch(item: str) -> str:
    if item == "scone":
        raise LookupError("sold out")
    return item


@app.task
async def deliver(items: list[str]) -> str:
    return f"delivered {' and '.join(items)}"


@app.task
async def thank(message: str) -> None:
    print("thanks:", message)


@app.task
async def apologise(error: ErrorInfo) -> None:
    print("sorry:", error.causes[0].message, "at", error.causes[0].path)


@app.task
async def substitute(error: ErrorInfo) -> str:
    return "a bun"


def main() -> None:
    order = group(fetch.s("tea"), fetch.s("jam")) | deliver.s()
    order.on_success(thank.s()).apply()

    order = group(fetch.s("tea"), fetch.s("scone")) | deliver.s()
    ended = order.on_failure(apologise.s()).apply()
    print("failed:", ended.error)

    order = group(fetch.s("tea"), fetch.s("scone").recover(substitute.s())) | deliver.s()
    print(order.apply().result())


if __name__ == "__main__":
    main()

# Output:
# thanks: delivered tea and jam
# sorry: sold out at (0, 1)
# failed: 1 of a group failed: callbacks:fetch failed: LookupError: sold out
# delivered tea and a bun
