"""Exceptions come back as what they were, and nothing that a record names is trusted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mplite_tasks import MPLiteError, RemoteTraceback, TaskError, UnknownTask
from mplite_tasks.failures import Failure, read_failure


class Custom(Exception):
    class Inner(Exception):
        pass


class TwoArguments(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def there_and_back(error: BaseException) -> Exception:
    return read_failure(Failure.of(error).encode()).exception()


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x", 1, None, 2.5, [1, {"a": True}]),
        KeyError("k"),
        FileNotFoundError(2, "No such file or directory", "f"),
        Custom("c"),
        Custom.Inner("i"),
        UnknownTask("who?"),
        asyncio.QueueEmpty(),
    ],
)
def test_an_exception_with_plain_arguments_comes_back_as_itself(error: Exception) -> None:
    back = there_and_back(error)
    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)


def test_a_constructor_that_takes_something_else_is_not_in_the_way() -> None:
    back = there_and_back(TwoArguments(1, 2))
    assert isinstance(back, TwoArguments)
    assert str(back) == "1 and 2"


@pytest.mark.parametrize(
    "error", [ValueError(object()), SystemExit(3), UnicodeDecodeError("ascii", b"\xff", 0, 1, "no")]
)
def test_what_cannot_come_back_is_a_task_error_with_name_and_text(error: BaseException) -> None:
    back = there_and_back(error)
    assert isinstance(back, TaskError)
    assert type(error).__name__ in str(back)
    assert str(error) in str(back)


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "builtins:eval",
        "builtins:SystemExit",
        "builtins:object",
        "no_such_module:Error",
        "wave:Error",
        "builtins:ValueError.__init__",
        "builtins",
        "",
    ],
)
def test_only_exceptions_of_loaded_modules_are_made_and_nothing_is_imported(name: str) -> None:
    import sys

    sys.modules.pop("wave", None)
    back = Failure(type=name, message="m", args=["m"]).exception()
    assert isinstance(back, TaskError)
    assert "wave" not in sys.modules


def test_a_module_of_the_apps_packages_is_imported() -> None:
    import sys

    sys.modules.pop("wave", None)
    back = Failure(type="wave:Error", message="m", args=["m"]).exception({"wave"})
    assert type(back).__module__ == "wave"


def test_the_workers_traceback_is_the_cause() -> None:
    try:
        int("here")
    except ValueError as exc:
        back = there_and_back(exc)
    assert isinstance(back.__cause__, RemoteTraceback)
    assert 'int("here")' in str(back.__cause__)


def test_an_exception_whose_text_cannot_be_made_is_still_recorded() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    failure = Failure.of(Silent())
    assert "failed with RuntimeError" in failure.message


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"type": 3, "message": "m"}'])
def test_a_damaged_record_is_an_error_that_says_so(data: bytes) -> None:
    back: Any = read_failure(data).exception()
    assert isinstance(back, MPLiteError)
    assert "cannot be read" in str(back)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("half a pair: \ud800"), r"half a pair: \ud800"),
        (FileNotFoundError(2, "No such file", "\udcff"), r"'\udcff'"),
        (ValueError(nested(5000)), "ValueError"),
    ],
)
def test_an_exception_that_json_cannot_carry_still_arrives(error: Exception, text: str) -> None:
    back = there_and_back(error)
    assert isinstance(back, TaskError)
    assert text in str(back)
