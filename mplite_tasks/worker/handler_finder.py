"""Finding the handler that ``mplite handle module:function`` names."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import HandlerNotFound
from ..handlers import Handler, HandlerOptions
from ..retry import as_retry
from .finder import module_exists, search_here
from .source import check_broker

__all__ = ["find_handler"]


def find_handler(
    name: str, *, queues: Sequence[str] = (), broker: str | None = None, retries: int | None = None
) -> Handler[..., Any]:
    """Return the handler that a name stands for, importing its module. The working directory is searched too.

    Parameters:
        name: ``module:function``; the function may be declared by ``@handler``, or be any other.
        queues, broker, retries: what is said instead of the options that were declared.

    Raises :class:`HandlerNotFound`, ``InvalidHandler`` or ``BadOption``, and what the module's own code raises.
    """
    function = _find(name)
    declared: Handler[..., Any] = function if isinstance(function, Handler) else Handler(function, HandlerOptions())
    options = declared.options
    if queues:
        options = replace(options, queues=tuple(queues))
    if broker is not None:
        check_broker(broker)
        options = replace(options, broker=broker)
    if retries is not None:
        options = replace(options, retry=as_retry(retries))
    if not options.queues:
        raise HandlerNotFound(f"{name} declares no queues, so name them: -Q q1,q2.")
    return Handler(declared.function, options)


def _find(name: str) -> Any:
    search_here()
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in f"{module_name}.{attribute}".split(".")):
        raise HandlerNotFound(f"{name}: not a name like module:function.")
    if not module_exists(module_name):
        raise HandlerNotFound(f"{name}: there is no module {module_name!r} in {os.getcwd()} or on the Python path.")  # noqa: PTH109 - shown
    value: Any = importlib.import_module(module_name)
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise HandlerNotFound(f"{name}: {module_name} has nothing called {attribute!r}.")
        value = getattr(value, part)
    return value
