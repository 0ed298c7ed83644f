"""Exceptions on their way from a worker to the caller: as plain data, and back as their own type where that is safe.

Only a subclass of :class:`Exception` comes back as itself, from a module that is loaded already, or that lies in a
package of the app's tasks. Nothing else that a record names is imported, called or even looked at.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Collection
from types import ModuleType
from typing import Any, Final

import msgspec

from .errors import RemoteTraceback, TaskError

__all__ = ["Failure", "read_failure"]

#: Characters of a traceback that are kept: its end, where the error is.
_MAX_TRACEBACK: Final = 100_000


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exception as plain data.

    Parameters:
        type: ``module:qualname`` of its class.
        message: ``str()`` of it.
        args: what its class is called with to make it again; ``None`` where that is not plain data.
        traceback: the worker's traceback as text.
        retries: how often the task was retried before.
    """

    type: str
    message: str
    args: list[Any] | None = None
    traceback: str = ""
    retries: int = 0

    @classmethod
    def of(cls, error: BaseException, *, retries: int = 0, skip_frames: int = 0) -> Failure:
        """Return the record of an exception.

        Parameters:
            skip_frames: outer frames of the traceback to leave out: those of the worker itself.
        """
        kind = type(error)
        return cls(
            type=f"{kind.__module__}:{kind.__qualname__}",
            message=_text(error),
            args=_arguments(error),
            traceback=_traceback(error, skip_frames),
            retries=retries,
        )

    def encode(self) -> bytes:
        """Return the record as JSON."""
        return _encoder.encode(self)

    def exception(self, packages: Collection[str] = ()) -> Exception:
        """Return the exception, as its own type or as :class:`TaskError`, with the traceback's text as its cause.

        Parameters:
            packages: top-level packages that may be imported to find the class.
        """
        error = self._own_type(packages) or TaskError(
            f"{self.type.replace(':', '.')}: {self.message}", type_name=self.type, traceback=self.traceback
        )
        if self.traceback:
            error.__cause__ = RemoteTraceback(self.traceback)
        return error

    def _own_type(self, packages: Collection[str]) -> Exception | None:
        kind = _find_class(self.type, packages)
        if kind is None or self.args is None:
            return None
        for make in (_call, _without_init):
            error = make(kind, self.args)
            if error is not None and _text(error) == self.message:
                return error
        return None


def read_failure(data: bytes) -> Failure:
    """Return the record of :meth:`Failure.encode`; for anything else one that says so."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError as exc:
        return Failure(type="mplite_tasks.errors:TaskError", message=f"The failure cannot be read: {exc}")


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Failure)


def _text(error: BaseException) -> str:
    try:
        return _sendable(str(error))
    except Exception as exc:
        return f"<str() of {type(error).__qualname__} failed with {type(exc).__qualname__}>"


def _sendable(text: str) -> str:
    """Return a text as UTF-8 can carry it: a file's name may have bytes in it that are none."""
    return text.encode(errors="backslashreplace").decode()


def _arguments(error: BaseException) -> list[Any] | None:
    try:
        reduced = error.__reduce_ex__(2)
    except Exception:
        reduced = ()
    if isinstance(reduced, tuple) and len(reduced) > 1 and reduced[0] is type(error) and isinstance(reduced[1], tuple):
        args = list(reduced[1])
    else:
        args = list(error.args)
    try:
        return args if _is_plain(args) and _encoder.encode(args) else None
    except (UnicodeEncodeError, RecursionError):
        return None


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(part) for part in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(part) for key, part in value.items())
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    return value is None or type(value) in {str, float}


def _traceback(error: BaseException, skip_frames: int) -> str:
    frames = error.__traceback__
    while skip_frames and frames is not None and frames.tb_next is not None:
        frames, skip_frames = frames.tb_next, skip_frames - 1
    try:
        text = "".join(traceback.format_exception(type(error), error, frames))
    except Exception as exc:
        text = f"The traceback cannot be shown: {type(exc).__qualname__}: {_text(exc)}"
    return _sendable(text[-_MAX_TRACEBACK:])


def _find_class(name: str, packages: Collection[str]) -> type[Exception] | None:
    module_name, _, qualname = name.partition(":")
    module = sys.modules.get(module_name)
    if module is None and module_name.partition(".")[0] in packages:
        try:
            module = importlib.import_module(module_name)
        except Exception:
            return None
    found: Any = module
    for part in qualname.split("."):
        found = vars(found).get(part) if isinstance(found, type | ModuleType) else None
    if isinstance(found, type) and issubclass(found, Exception):
        return found
    return None


def _call(kind: type[Exception], args: list[Any]) -> Exception | None:
    try:
        error = kind(*args)
    except Exception:
        return None
    return error if isinstance(error, Exception) else None


def _without_init(kind: type[Exception], args: list[Any]) -> Exception | None:
    try:
        error = kind.__new__(kind, *args)
        error.args = tuple(args)
    except Exception:
        return None
    return error if isinstance(error, Exception) else None
