import dataclasses
import functools
import inspect
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet import codec
from motet.binding import Binding
from motet.errors import DecodeError, NotSerializable, UsageError

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]


class Context:
    pass


class Depends:
    pass


@dataclasses.dataclass
class Point:
    x: int


def is_injected(annotation: Any) -> bool:
    return annotation is Context or any(isinstance(m, Depends) for m in getattr(annotation, "__metadata__", ()))


def bind(fn: Callable[..., Any]) -> Binding:
    return Binding.of(fn, f"pkg:{fn.__name__}", is_injected)


def add(x: int, y: int) -> int:
    return x + y


def with_defaults(x: int, y: int = 2, *, z: str = "a") -> tuple[int, int, str]:
    return x, y, z


def positional(a: int, b: int = 2, /, c: int = 3) -> tuple[int, int, int]:
    return a, b, c


def variadic(a: int, b: int = 2, *rest: Decimal, k: int = 0, **more: Point) -> tuple[Any, ...]:
    return a, b, rest, k, more


def only_star(*xs: int) -> int:
    return sum(xs)


def keyword_only(*, b: int) -> int:
    return b


def nothing() -> int:
    return 0


def injected(ctx: Context, x: int, db: Annotated[str, Depends()] = "real", y: int = 0) -> tuple[object, ...]:
    return ctx, x, db, y


def injected_first(ctx: Context, *xs: int) -> tuple[object, ...]:
    return ctx, *xs


untyped: Any = eval("lambda x, y=None: (x, y)")  # without annotations, and without a checker that minds
untyped.__name__ = untyped.__qualname__ = "untyped"


def union(x: Point | Decimal, y: "str | bytes" = b"") -> object:
    return x, y


CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
    (add, (2, 3), {}),
    (add, (2,), {"y": 3}),
    (add, (), {"y": 3, "x": 2}),
    (with_defaults, (1,), {}),
    (with_defaults, (1, 5), {"z": "b"}),
    (positional, (1,), {}),
    (positional, (1, 7), {"c": 9}),
    (positional, (1, 7, 8), {}),
    (variadic, (1,), {}),
    (variadic, (1, 3, Decimal("1.5"), Decimal(2)), {"k": 4, "p": Point(1), "rest": Point(2)}),
    (variadic, (), {"a": 1, "p": Point(1)}),
    (only_star, (1, 2, 3), {}),
    (only_star, (), {}),
    (keyword_only, (), {"b": 1}),
    (nothing, (), {}),
    (untyped, ([1, {"a": None}],), {"y": "b"}),
    (union, (Point(1),), {"y": "text"}),
    (union, (Decimal("1.5"), b"\xff"), {}),
]


@pytest.mark.parametrize(("fn", "args", "kwargs"), CALLS)
def test_a_call_comes_back_as_it_was_made(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    binding = bind(fn)

    got_args, got_kwargs = binding.decode_call(binding.encode_call(args, kwargs))

    assert fn(*got_args, **got_kwargs) == fn(*args, **kwargs)


@given(st.data())
def test_any_call_that_python_accepts_comes_back_as_it_was_made(data: st.DataObject) -> None:
    fn: Any = data.draw(st.sampled_from([add, with_defaults, positional, only_star, keyword_only, nothing]))
    args = tuple(data.draw(st.lists(st.integers(-(2**63), 2**64 - 1), max_size=4)))
    kwargs = data.draw(st.dictionaries(st.sampled_from("abcxy"), st.integers(0, 9), max_size=3))
    binding = bind(fn)

    try:
        expected = fn(*args, **kwargs)
    except TypeError:
        with pytest.raises((TypeError, UsageError)):
            binding.encode_call(args, kwargs)
    else:
        got_args, got_kwargs = binding.decode_call(binding.encode_call(args, kwargs))
        assert fn(*got_args, **got_kwargs) == expected


def test_arguments_travel_by_name_and_defaults_stay_at_home() -> None:
    assert codec.decode(bind(with_defaults).encode_call((1,), {"z": "a"})) == {"x": 1, "z": "a"}
    assert codec.decode(bind(with_defaults).encode_call((1,), {})) == {"x": 1}


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "words"),
    [
        (add, (1, 2, 3), {}, r"add\(\) takes 2 positional arguments but 3 were given"),
        (add, (1,), {"x": 2}, r"add\(\) got multiple values for argument 'x'"),
        (add, (1,), {"q": 2}, r"add\(\) got an unexpected keyword argument 'q'"),
        (positional, (), {"a": 2}, "positional-only"),
        (nothing, (1,), {}, r"nothing\(\) takes 0 positional arguments but 1"),
    ],
)
def test_arguments_that_do_not_fit_are_a_type_error_in_pythons_words(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], words: str
) -> None:
    for attempt in (bind(fn).check, bind(fn).encode_call):
        with pytest.raises(TypeError, match=words):
            attempt(args, kwargs)


def test_a_missing_argument_is_named_unless_the_call_is_partial() -> None:
    with pytest.raises(UsageError, match=r"^add\(\) still needs y$"):
        bind(add).encode_call((1,), {})

    assert codec.decode(bind(add).encode_call((1,), {}, partial=True)) == {"x": 1}
    bind(add).check((1,), {})


@pytest.mark.parametrize("value", ["1", True, Point(1), 2**64])
def test_an_argument_that_would_not_come_back_is_refused_by_name(value: object) -> None:
    with pytest.raises(NotSerializable, match=r"^argument 'y' of pkg:add cannot be sent: "):
        bind(add).encode_call((1, value), {})


def test_an_object_for_an_unannotated_parameter_is_refused_by_name() -> None:
    with pytest.raises(NotSerializable, match="argument 'x' of pkg:untyped cannot be sent: the Point would come back"):
        bind(untyped).encode_call((Point(1),), {})


def test_a_result_is_held_to_the_return_annotation() -> None:
    binding = bind(add)

    assert binding.result_decoder()(binding.encode_result(3)) == 3
    assert binding.result_decoder(many=True)(binding.encode_result([3, 4], many=True)) == [3, 4]
    with pytest.raises(NotSerializable, match=r"^the result of pkg:add cannot be sent"):
        binding.encode_result("3")


def test_injected_parameters_are_off_the_wire_and_filled_afterwards() -> None:
    binding, ctx = bind(injected), Context()
    raw = binding.encode_call((5,), {"y": 1})

    args, kwargs = binding.decode_call(raw)
    binding.inject(args, kwargs, {"ctx": ctx, "db": "fake"})

    assert codec.decode(raw) == {"x": 5, "y": 1}
    assert injected(*args, **kwargs) == (ctx, 5, "fake", 1)
    assert set(binding.injected) == {"ctx", "db"}


def test_an_injected_parameter_before_star_args_keeps_its_place() -> None:
    binding, ctx = bind(injected_first), Context()

    args, kwargs = binding.decode_call(binding.encode_call((5, 6), {}))
    binding.inject(args, kwargs, {"ctx": ctx})

    assert injected_first(*args, **kwargs) == (ctx, 5, 6)


def test_a_message_cannot_replace_a_dependency() -> None:
    with pytest.raises(UsageError, match="'db' injected"):
        bind(injected).encode_call((5,), {"db": "mine"})
    with pytest.raises(DecodeError, match="pkg:injected was sent 'db'"):
        bind(injected).decode_call(codec.encode({"x": 1, "db": "mine"}))


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"x": 1}, r"pkg:add: add\(\) still needs y"),
        ({"x": 1, "y": 2, "old": 3}, "pkg:add was sent 'old', but has no such parameter"),
        ({"x": 1, "y": "2"}, "argument 'y' of pkg:add: Expected `int`, got `str`"),
        ([1, 2], "the arguments of pkg:add"),
        (None, "the arguments of pkg:add"),
    ],
)
def test_a_message_of_another_release_is_a_decode_error_that_names_the_parameter(sent: object, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        bind(add).decode_call(codec.encode(sent))


def test_a_map_of_more_arguments_may_not_hold_the_name_of_a_parameter() -> None:
    with pytest.raises(DecodeError, match="multiple values for argument 'k'"):
        bind(variadic).decode_call(codec.encode({"a": 1, "more": {"k": Point(1)}}))


@pytest.mark.parametrize(
    ("fn", "given", "mode", "sent", "expected"),
    [
        (add, ((3,), {}), "prepend", 2, (2, 3)),
        (add, ((), {"y": 3}), "prepend", 2, (2, 3)),
        (add, ((3,), {}), ("into", "y"), 2, (3, 2)),
        (positional, ((5,), {}), "prepend", 2, (2, 5)),
        (positional, ((5,), {}), ("into", "b"), 2, (5, 2)),
        (only_star, ((3, 4), {}), "prepend", 2, (2, 3, 4)),
        (only_star, ((), {}), "prepend", 2, (2,)),
        (variadic, ((5, Decimal(6)), {}), "prepend", 2, (2, 5, Decimal(6))),
        (with_defaults, ((), {}), "prepend", 2, (2,)),
    ],
)
def test_an_input_stands_in_front_of_the_arguments_or_where_it_is_told(
    fn: Callable[..., Any], given: Any, mode: Any, sent: Any, expected: Any
) -> None:
    binding = bind(fn)

    raw, name = binding.bind_step(given[0], given[1], mode)
    got_args, got_kwargs = binding.decode_call(raw, codec.encode(sent), name)

    assert fn(*got_args, **got_kwargs) == fn(*expected)


def test_an_input_goes_into_a_free_keyword_and_is_read_by_its_annotation() -> None:
    binding = bind(variadic)

    raw, name = binding.bind_step((1,), {}, ("into", "p"))

    assert binding.decode_call(raw, codec.encode(Point(3)), name) == ([1, 2], {"p": Point(3)})


def test_an_ignored_input_needs_a_whole_call() -> None:
    raw, name = bind(add).bind_step((1, 2), {}, "ignore")

    assert name is None
    assert bind(add).decode_call(raw, codec.encode("ignored"), None) == ([], {"x": 1, "y": 2})
    with pytest.raises(UsageError, match="still needs y"):
        bind(add).bind_step((1,), {}, "ignore")


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "words"),
    [
        (keyword_only, (), {"b": 1}, r"no place for an input: .*\.si\(.*\.into\(\"b\"\)"),
        (nothing, (), {}, r"takes no arguments and has no place for an input: .*\.si\(\)"),
        (add, (), {"x": 1}, "'x' twice: from its input and as a keyword"),
        (add, (1, 2), {}, "no place left for an input"),
    ],
)
def test_an_input_without_a_place_is_a_usage_error_at_composition(
    fn: Callable[..., Any], args: Any, kwargs: Any, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        bind(fn).accepts_input(args, kwargs)


def test_composition_learns_where_an_input_goes() -> None:
    assert bind(add).accepts_input((1,), {}) == "x"
    assert bind(injected).accepts_input((), {}) == "x"
    assert bind(only_star).accepts_input((1,), {}) == "xs"


@pytest.mark.parametrize("name", ["q", "ctx", "x"])
def test_an_input_into_a_wrong_name_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError):
        bind(injected).bind_step((), {"x": 1}, ("into", name))


def test_a_step_that_lacks_more_than_its_input_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"add\(\) still needs y"):
        bind(add).bind_step((), {}, "prepend")


def test_an_input_of_the_wrong_type_is_a_decode_error_that_names_the_parameter() -> None:
    raw, name = bind(add).bind_step((1,), {}, "prepend")

    with pytest.raises(DecodeError, match="argument 'x' of pkg:add: Expected `int`"):
        bind(add).decode_call(raw, codec.encode("a"), name)
    with pytest.raises(DecodeError, match="'x' twice"):
        bind(add).decode_call(codec.encode({"x": 1, "y": 2}), codec.encode(1), name)
    with pytest.raises(DecodeError, match="no input for 'x'"):
        bind(add).decode_call(raw, None, name)


def test_map_reads_each_element_by_the_first_parameter() -> None:
    binding = bind(union)

    calls = list(binding.decode_many(binding.encode_many([Point(1), Decimal(2)])))

    assert [union(*args, **kwargs) for args, kwargs in calls] == [(Point(1), b""), (Decimal(2), b"")]


@pytest.mark.parametrize("fn", [add, only_star, positional])
def test_starmap_reads_each_element_as_arguments(fn: Callable[..., Any]) -> None:
    binding = bind(fn)

    calls = list(binding.decode_many(binding.encode_many([(1, 2), [3, 4]], star=True), star=True))

    assert [fn(*args, **kwargs) for args, kwargs in calls] == [fn(1, 2), fn(3, 4)]


def test_elements_that_do_not_fit_are_named_on_both_sides() -> None:
    with pytest.raises(NotSerializable, match="element 1 for pkg:only_star"):
        bind(only_star).encode_many([1, "a"])
    with pytest.raises(UsageError, match="still needs y"):
        bind(add).encode_many([1])
    with pytest.raises(DecodeError, match=r"element 0 for pkg:add: add\(\) takes 2"):
        list(bind(add).decode_many(codec.encode([[1, 2, 3]]), star=True))
    with pytest.raises(DecodeError, match="still needs y"):
        list(bind(add).decode_many(codec.encode([[1]]), star=True))


def test_an_annotation_that_cannot_be_resolved_is_named_late() -> None:
    def task(x: int, y: "Missing") -> None: ...

    binding = Binding.of(task, "pkg:task")

    binding.check((1,), {})
    with pytest.raises(UsageError, match="pkg:task: the annotation of 'y' cannot be resolved at run time"):
        binding.resolve()
    with pytest.raises(UsageError, match="'y'"):
        binding.encode_call((1, 2), {})


def test_an_annotation_that_cannot_be_read_back_is_named() -> None:
    def task(x: list[Point | dict[str, int]]) -> None: ...

    with pytest.raises(UsageError, match="argument 'x' of pkg:task: "):
        Binding.of(task, "pkg:task").resolve()


def test_a_wrapped_function_is_bound_by_what_it_wraps() -> None:
    @functools.wraps(add)
    def wrapper(*args: Any, **kwargs: Any) -> int:
        return add(*args, **kwargs)

    assert codec.decode(bind(wrapper).encode_call((1, 2), {})) == {"x": 1, "y": 2}


def test_a_binding_can_be_built_from_fields_instead_of_a_function() -> None:
    binding = Binding("pkg:Point", inspect.signature(Point), lambda: {"x": int})

    assert binding.decode_call(binding.encode_call((1,), {})) == ([], {"x": 1})


def test_a_hostile_depth_in_the_arguments_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="deeper"):
        bind(untyped).decode_call(b"\x81\xa1x" + b"\x91" * 10_000 + b"\x01")


def test_results_of_plain_types_are_written_without_being_read_back_unless_they_cannot_be_written() -> None:
    def number() -> int:
        return 0

    def text() -> str:
        return ""

    assert Binding.of(number, "number").encode_result(7) == b"\x07"
    for fn, value in ((number, 2**70), (text, "\ud800"), (number, "7"), (text, True)):
        with pytest.raises(NotSerializable, match=f"the result of {fn.__name__}"):
            Binding.of(fn, fn.__name__).encode_result(value)
