"""A task's result: what a caller holds after sending it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar, cast

from mplite_tasks_transport import Outcome

from .durations import seconds
from .encoding import Encoded, decode
from .errors import MPLiteError, ResultIgnored, ResultTimeout, TaskExpired
from .failures import read_failure
from .gateway import Gateway
from .pool import NoLinkInTime
from .states import State

__all__ = ["Result"]

R_co = TypeVar("R_co", covariant=True)


class ResultSource(Protocol):
    """What a result needs of its app."""

    @property
    def gateway(self) -> Gateway: ...
    @property
    def packages(self) -> Collection[str]: ...
    def unpack(self, value: bytes) -> Encoded:
        """Return the stored value of a success, to be decoded."""


class Result(Generic[R_co]):
    """The result of one task, by its id.

    It holds nothing itself: each question goes to the broker, and two results with the same id are equal.
    :meth:`MPLite.result` makes one from an id that was kept somewhere.
    """

    __slots__ = ("_source", "id", "ignored", "task")

    def __init__(self, source: ResultSource, id: str, *, task: str | None = None, ignored: bool = False) -> None:
        self._source = source
        self.id = id
        #: The task's name, where it is known.
        self.task = task
        #: Whether the task keeps no result.
        self.ignored = ignored

    def get(self, timeout: float | timedelta | None = None) -> R_co:
        """Wait until the task is done and return what it returned.

        The broker tells when it is there; nothing polls. It can be got as often as wanted until it expires or is
        forgotten.

        Parameters:
            timeout: seconds, or a timedelta, to wait at most. Default: for ever.

        Raises the exception that the task raised, with the worker's traceback as its cause, or :class:`TaskError`
        where that type cannot be brought back; :class:`ResultTimeout` (a ``TimeoutError``); :class:`TaskExpired`;
        :class:`ResultIgnored` if the task keeps none.
        """
        if self.ignored:
            raise ResultIgnored(f"{self} keeps no result (ignore_result=True), so there is nothing to wait for.")
        limit = None if timeout is None else seconds("timeout", timeout)
        try:
            outcome = self._source.gateway.wait_outcome(self.id, limit)
        except NoLinkInTime as exc:
            raise ResultTimeout(f"{self} was not seen to be done within {limit or 0:g} s, as {exc}") from exc
        if outcome is None:
            raise ResultTimeout(f"{self} was not done within {limit:g} s; it may still wait, run, or be retried.")
        value = self._value(outcome)
        if isinstance(value, Exception) and outcome.state != State.SUCCESS:
            raise value
        return cast(R_co, value)

    @property
    def state(self) -> State:
        """What the broker knows now; ``PENDING`` where it knows nothing."""
        outcome = self._outcome()
        return State.PENDING if outcome is None else State(outcome.state)

    def ready(self) -> bool:
        """Whether the task is done, in one way or the other."""
        return self.state.final

    def successful(self) -> bool:
        """Whether the task is done and returned a value."""
        return self.state is State.SUCCESS

    def failed(self) -> bool:
        """Whether the task is done and raised."""
        return self.state is State.FAILURE

    @property
    def info(self) -> Any:
        """What is known now: the value, the exception (not raised) of a failure or before a retry, or ``None``."""
        outcome = self._outcome()
        return None if outcome is None else self._value(outcome)

    @property
    def traceback(self) -> str | None:
        """The worker's traceback of a failure, or of the last attempt before a retry."""
        outcome = self._outcome()
        if outcome is None or outcome.state not in {State.FAILURE, State.RETRY}:
            return None
        return read_failure(outcome.value).traceback or None

    def forget(self) -> bool:
        """Drop the result from the broker. Returns whether there was one. The task itself is not touched."""
        return self._source.gateway.forget([self.id]) > 0

    def _outcome(self) -> Outcome | None:
        return None if self.ignored else self._source.gateway.outcome(self.id)

    def _value(self, outcome: Outcome) -> Any:
        match outcome.state:
            case State.SUCCESS:
                return decode(self._source.unpack(outcome.value))
            case State.FAILURE | State.RETRY:
                return read_failure(outcome.value).exception(self._source.packages)
            case State.EXPIRED:
                return TaskExpired(f"{self} was not started before it expired.")
            case State.PENDING | State.STARTED:
                return None
            case other:
                raise MPLiteError(f"{self} has the state {other!r}, which this version does not know.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Result) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return f"Task {self.task}[{self.id}]" if self.task else f"Task [{self.id}]"

    def __repr__(self) -> str:
        return f"<Result {self.task or '?'}[{self.id}]>"
