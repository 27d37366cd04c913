"""`motet call`, `motet submit`, `motet tasks`: from the outside to a task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import anyio
import click

from motet.cli import exits
from motet.cli.output import error_data, plain, print_json, print_table, text_of
from motet.cli.root import app_option, json_option, target_of
from motet.cli.target import load_app
from motet.errors import DecodeError, MotetError, TaskCancelled, TaskFailed, UnknownTask, UsageError
from motet.options import Priority, Size

if TYPE_CHECKING:
    from motet.app import Motet
    from motet.canvas.terms import Signature
    from motet.task import Definition

__all__ = ["call", "submit", "tasks"]

F = TypeVar("F", bound=Callable[..., Any])


def json_of(kind: type, default: str, example: str) -> dict[str, Any]:
    """The settings of an option that takes JSON of one kind."""

    def read(ctx: click.Context, parameter: click.Parameter, text: str) -> Any:
        wanted = f"write a JSON {'list' if kind is list else 'object'}, as in '{example}'"
        try:
            data = json.loads(text)
        except ValueError as error:
            raise click.BadParameter(f"{error}; {wanted}", ctx, parameter) from None
        if not isinstance(data, kind):
            raise click.BadParameter(wanted, ctx, parameter)
        return data

    return {"metavar": "JSON", "default": default, "callback": read}


def member(enumeration: type[Priority | Size]) -> Any:
    """The name of a member of an enumeration."""
    return click.Choice([each.name.lower() for each in enumeration], case_sensitive=False)


def arguments(command: F) -> F:
    """Add the name of a task and its arguments."""
    for decorate in (
        app_option,
        click.option("--kwargs", **json_of(dict, "{}", '{"x": 1}'), help="Arguments by name, an object."),
        click.option("--args", **json_of(list, "[]", "[1, 2]"), help="Arguments by position, a list."),
        click.argument("name"),
    ):
        command = decorate(command)
    return command


@click.command
@arguments
@json_option
@click.pass_context
def call(ctx: click.Context, name: str, args: list[Any], kwargs: dict[str, Any], *, as_json: bool) -> None:
    """Run task NAME here and now, and print its result.

    Neither broker nor worker takes part. Retries and delays pass at once. NAME is module:function, or only the
    function when no other task is called so.
    """
    app = prepared(target_of(ctx))
    definition = found(app, name)
    applied = signature(app, definition, args, kwargs).apply()
    if isinstance(applied.error, TaskFailed):
        finish_failed(ctx, applied.error, as_json=as_json)
    value = applied.result()
    if as_json:
        print_json({"task": definition.name, "result": value})
    else:
        click.echo(text_of(value))


@click.command
@arguments
@json_option
@click.option("--queue", help="Queue, instead of the task's own.")
@click.option("--priority", type=member(Priority), help="Priority, instead of the task's own.")
@click.option("--size", type=member(Size), help="Size, instead of the task's own.")
@click.option("--delay", type=click.FloatRange(0), metavar="SECONDS", help="Not before so many seconds from now.")
@click.option("--id", help="The run's id; the same id twice is one run.")
@click.option("--unique", metavar="KEY", help="Submit nothing if a run with this key is known.")
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Wait at most so long; implies --wait.")
@click.pass_context
def submit(
    ctx: click.Context, /, name: str, args: list[Any], kwargs: dict[str, Any], *, as_json: bool, **chosen: Any
) -> None:
    """Hand task NAME to the workers, and print the run's id, or with --wait its result."""
    app = prepared(target_of(ctx))
    term = signature(app, found(app, name), args, kwargs)
    timeout = chosen.pop("timeout")
    wait = chosen.pop("wait") or timeout is not None
    options = {name: value for name, value in chosen.items() if value is not None}
    if "priority" in options:
        options["priority"] = Priority[options["priority"].upper()]
    if "size" in options:
        options["size"] = Size[options["size"].upper()]
    try:
        run, value = anyio.run(_submitted, app, term, options, wait, timeout)
    except (TaskFailed, TaskCancelled) as error:
        finish_failed(ctx, error, as_json=as_json)
    if as_json:
        print_json({"id": run, "state": "success", "result": value} if wait else {"id": run})
    else:
        click.echo(text_of(value) if wait else run)


async def _submitted(
    app: Motet, term: Signature[Any, Any], options: Mapping[str, Any], wait: bool, timeout: float | None
) -> tuple[str, Any]:
    async with app:
        app.client.shared("submitting to other processes")
        handle = await term.submit(**options)
        return handle.id, await handle.result(timeout) if wait else None


@click.command
@app_option
@json_option
@click.pass_context
def tasks(ctx: click.Context, *, as_json: bool) -> None:
    """List the tasks that the app knows."""
    app = prepared(target_of(ctx))
    listed = [described(app, each) for _, each in sorted(app.registry.definitions.items())]
    if as_json:
        print_json(listed)
        return
    print_table(
        ["task", "queue", "priority", "size", "retry", "timeout", "runs in"],
        [list(each.values()) for each in listed],
        "this app has no tasks: name the modules that define them, Motet(url, include=[...])",
    )


def described(app: Motet, definition: Definition) -> dict[str, Any]:
    profile = app.registry.profile(definition, {})
    policy = type(definition.retry_policy).__name__
    retries = getattr(definition.retry_policy, "max_retries", None)
    return {
        "name": definition.name,
        "queue": profile.queue,
        "priority": Priority(profile.priority).name.lower(),
        "size": profile.size,
        "retry": None if policy == "NoRetry" else f"{policy} x{retries}",
        "timeout": profile.timeout,
        "executor": "event loop" if definition.is_async else definition.executor,
    }


def prepared(target: str) -> Motet:
    """Load an app with all its tasks."""
    app = load_app(target)
    app.import_tasks()
    return app


def found(app: Motet, name: str) -> Definition:
    """Find a task by its name, or by its function's name alone when that is enough.

    Raises:
        UnknownTask: There is none, or there are several.
    """
    known = app.registry.definitions
    if name in known:
        return known[name]
    alike = [each for each in known if each.partition(":")[2] == name]
    if len(alike) != 1:
        raise UnknownTask(name, known)
    return known[alike[0]]


def signature(app: Motet, definition: Definition, args: list[Any], kwargs: dict[str, Any]) -> Signature[Any, Any]:
    """Make a signature of JSON: strings become dates, mappings become models, as the task's annotations say.

    Raises:
        UsageError: The arguments do not fit.
    """
    import inspect

    from motet import codec
    from motet.canvas.terms import Signature

    try:
        definition.binding.check(args, kwargs)
        given = inspect.signature(definition.fn).bind_partial(*args, **kwargs).arguments
        typed_args, typed_kwargs = definition.binding.decode_call(codec.encode(dict(given)))
    except TypeError as error:
        raise UsageError(str(error)) from None
    except DecodeError as error:
        raise UsageError(error.reason) from None
    return Signature(definition.name, typed_args, typed_kwargs, app=app)


def finish_failed(ctx: click.Context, error: MotetError, *, as_json: bool) -> NoReturn:
    """Print a run's failure, with the task's own traceback when there is one, and exit."""
    if isinstance(error, TaskFailed):
        if as_json:
            print_json({"state": "failure", "error": error_data(error.error)})
        elif error.error.traceback:
            click.echo(error.error.traceback, err=True, nl=False)
        if not as_json:
            click.secho(f"failed: {error}", fg="red", err=True)
    elif as_json:
        print_json({"state": "cancelled", "error": plain(str(error))})
    else:
        click.secho(str(error), fg="yellow", err=True)
    ctx.exit(exits.FAILED)
