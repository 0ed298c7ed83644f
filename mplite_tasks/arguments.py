"""Whether arguments fit a function, asked before anything is sent or run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .errors import BadArguments, InvalidTask

__all__ = ["ArgumentCheck"]

_POSITIONAL = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}

#: Parameters that ``.delay(…)`` takes for itself.
_TAKEN = "priority"


class ArgumentCheck:
    """Checks arguments against the signature of one task's function.

    Raises :class:`InvalidTask` for a function that cannot be called by name and value, or that has a parameter which
    ``.delay`` takes for itself.
    """

    def __init__(self, function: Callable[..., Any], task: str) -> None:
        self._task = task
        self.signature = inspect.signature(function)
        parameters = self.signature.parameters
        if _TAKEN in parameters:
            raise InvalidTask(
                f"Task {task} has a parameter named {_TAKEN!r}, which .delay(…, {_TAKEN}=n) takes for the message: "
                f"rename the parameter (for example to 'level')."
            )
        kinds = [parameter.kind for parameter in parameters.values()]
        self._simple = all(kind in _POSITIONAL for kind in kinds)
        self._most = len(kinds)
        self._least = sum(parameter.default is inspect.Parameter.empty for parameter in parameters.values())

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise :class:`BadArguments` naming the task if its function cannot be called with these."""
        if self._simple and not kwargs and self._least <= len(args) <= self._most:
            return
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise BadArguments(f"Task {self._task}{self.signature}: {exc}.") from exc

    def named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments that fit, by the names of their parameters."""
        return dict(self.signature.bind(*args, **kwargs).arguments)
