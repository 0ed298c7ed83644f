"""What ``@app.task`` promises, and what it refuses before anything is sent."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from mplite_tasks import BadOption, InvalidTask, MPLite, Retry, UnknownTask


@pytest.fixture
def app() -> MPLite:
    return MPLite("proj", "memory://")


def test_a_task_is_named_after_its_module_and_function(app: MPLite) -> None:
    @app.task
    def work() -> None: ...

    assert work.name == f"{__name__}.{test_a_task_is_named_after_its_module_and_function.__name__}.<locals>.work"
    assert app.find_task(work.name) is work


def test_a_task_of_a_script_is_named_after_the_app(app: MPLite) -> None:
    def work() -> None: ...

    work.__module__, work.__qualname__ = "__main__", "work"
    assert app.task(work).name == "proj.work"


def test_calling_a_task_runs_its_function_here(app: MPLite) -> None:
    @app.task(priority=3)
    def double(x: int) -> int:
        """Twice."""
        return 2 * x

    assert double(4) == 8
    assert double.__doc__ == "Twice."


def test_an_unknown_option_is_refused_with_the_one_that_was_meant(app: MPLite) -> None:
    with pytest.raises(InvalidTask, match=r"no task option 'priorty'\. Did you mean 'priority'\?"):
        app.task(priorty=3)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"priority": 2**31}, "not a signed 32-bit integer"),
        ({"priority": -(2**31) - 1}, "not a signed 32-bit integer"),
        ({"priority": True}, "not an integer"),
        ({"priority": "9"}, "not an integer"),
        ({"retry": -1}, "neither a Retry"),
        ({"retry": True}, "neither a Retry"),
        ({"queue": " "}, "not a name"),
        ({"queue": "q" * 300}, "not a name"),
        ({"result_ttl": -1}, "not a number of seconds"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_refused(app: MPLite, options: dict[str, Any], text: str) -> None:
    with pytest.raises(BadOption, match=text):
        app.task(**options)


def test_both_ends_of_the_range_are_priorities(app: MPLite) -> None:
    assert app.task(priority=2**31 - 1, name="a")(lambda: None).declared.priority == 2**31 - 1
    assert app.task(priority=-(2**31), name="b")(lambda: None).declared.priority == -(2**31)


def test_a_function_with_a_parameter_called_priority_is_refused_with_the_way_out(app: MPLite) -> None:
    with pytest.raises(InvalidTask, match="rename the parameter"):

        @app.task
        def work(priority: int) -> None: ...


def test_a_name_that_is_taken_is_refused(app: MPLite) -> None:
    app.task(name="same")(lambda: 1)
    with pytest.raises(InvalidTask, match="a task 'same' already"):

        @app.task(name="same")
        def other() -> None: ...


def test_what_is_not_a_plain_function_is_refused(app: MPLite) -> None:
    async def later() -> None: ...

    for function, text in [(later, "asynchronous"), (int, "not a function"), (functools.partial(print), "no name")]:
        with pytest.raises(InvalidTask, match=text):
            app.task(function)


@pytest.mark.parametrize(
    ("options", "text"), [({"serializer": "pickle"}, "runs code"), ({"serializer": "x"}, "no seri")]
)
def test_a_serializer_that_is_unsafe_or_unknown_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(BadOption, match=text):
        MPLite("proj", **options)


def test_the_app_lists_its_queues_once_each(app: MPLite) -> None:
    for name, queue in [("a", None), ("b", "mail"), ("c", "mail"), ("d", "proj")]:
        app.task(name=name, queue=queue)(lambda: None)
    assert app.queues == ("proj", "mail")


def test_the_broker_is_the_argument_else_the_environment_else_the_local_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPLITE_BROKER", raising=False)
    assert MPLite("proj").broker_url == "mplite://"
    monkeypatch.setenv("MPLITE_BROKER", "memory://")
    assert MPLite("proj").broker_url.startswith("memory://")
    assert MPLite("proj", "mplite://127.0.0.1:7878/v").broker_url == "mplite://127.0.0.1:7878/v"


def test_the_password_of_the_broker_is_never_shown() -> None:
    app = MPLite("proj", "mplite://:0123456789abcdef0123@127.0.0.1:7878/")
    assert "0123456789abcdef0123" not in repr(app) + app.broker_url


def test_a_task_that_nobody_declared_is_unknown_and_the_error_names_those_that_are(app: MPLite) -> None:
    app.task(name="one")(lambda: None)
    with pytest.raises(UnknownTask, match="It knows: one"):
        app.find_task("two")


def test_a_policy_may_be_given_as_it_is(app: MPLite) -> None:
    policy = Retry()
    assert app.task(name="a", retry=policy)(lambda: None).declared.retry is policy
