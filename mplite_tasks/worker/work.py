"""What a worker works on: the tasks of an app, or one handler. Found in the template, run by its consumers."""

from __future__ import annotations

from typing import Any, Protocol

from ..app import MPLite
from ..handlers import Handler
from .control import Start
from .executor import Executor
from .finder import find_app
from .handler_finder import find_handler
from .handling import HandlerExecutor
from .settlement import Executes
from .source import Source, check_source

__all__ = ["Work", "find_work"]


class Work(Protocol):
    """What the template needs to know."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def source(self) -> Source:
        """Where messages come from."""

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that are listened to where the command line names none."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks, sorted."""

    @property
    def concurrency(self) -> int:
        """How many consumers there are where the command line does not say."""

    def executor(self) -> Executes:
        """Return what runs the messages in one consumer."""


class AppWork:
    """The tasks of an app."""

    concurrency = 1

    def __init__(self, app: MPLite) -> None:
        self._app = app
        self.name = app.name
        check_source(app)  # a URL that no broker can have is to be found before anything is forked
        self.source: Source = app

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues of the app."""
        return self._app.queues

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the app's tasks, sorted."""
        return tuple(sorted(self._app.tasks))

    def executor(self) -> Executes:
        """Return what runs tasks."""
        return Executor(self._app)


class HandlerWork:
    """One handler."""

    tasks = ()

    def __init__(self, name: str, handler: Handler[..., Any]) -> None:
        self._handler = handler
        self.name = name
        self.queues = handler.options.queues
        self.concurrency = handler.options.concurrency
        self.source: Source = handler.source()
        check_source(self.source)

    def executor(self) -> Executes:
        """Return what runs the handler."""
        return HandlerExecutor(self._handler)


def find_work(start: Start) -> Work:
    """Return what a worker is to work on, importing the user's module. Raises as the finders do."""
    if not start.is_handler:
        app = find_app(start.app)
        app.close()
        return AppWork(app)
    handler = find_handler(start.app, queues=start.queues, broker=start.broker, retries=start.retries)
    return HandlerWork(start.app, handler)
