"""What the methods of the two dicts mean: from a call of a proxy to frames, and from their answers to values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from .. import frames
from ..errors import NotFound
from ..frames import Half
from ..limits import MAX_ID_CHARS, MAX_PRIORITY, MIN_PRIORITY
from ..values import decode_value, encode_value
from .link import Link

__all__ = ["DICT_METHODS", "DictView", "IndexView", "QueueView", "ensure_queue"]

_MISSING: Final = object()


def ensure_queue(link: Link, name: str) -> None:
    """Use a queue as it exists, else declare it durable."""
    try:
        link.call(frames.DeclareQueue(0, name, passive=True))
    except NotFound:
        link.call(frames.DeclareQueue(0, name))


class DictView:
    """One of the two dicts of a queue, over one thread's link. Its public names are those of a dict.

    Parameters:
        link: the connection.
        queue: the queue's name.
    """

    half: Half

    def __init__(self, link: Link, queue: str) -> None:
        self._link = link
        self._queue = queue

    # What the halves differ in

    def decode(self, id: str, value: Any) -> Any:
        """Return the Python value of what the broker has."""
        raise NotImplementedError

    def write(self, id: str, value: Any, *, if_absent: bool = False) -> frames.ViewSet:
        """Return the request that writes a value. Raises :class:`TypeError` or :class:`ValueError`."""
        raise NotImplementedError

    # Reading

    def contains(self, id: str) -> bool:
        return self._get(_checked(id)) is not None

    def getitem(self, id: str) -> Any:
        found = self._get(_checked(id))
        if found is None:
            raise KeyError(id)
        return self.decode(id, found[0])

    def get(self, id: str, default: Any = None) -> Any:
        found = self._get(_checked(id))
        return default if found is None else self.decode(id, found[0])

    def length(self) -> int:
        count: int = self._link.call(frames.ViewCount(0, self._queue))
        return count

    def iterate(self) -> Iterator[str]:
        """Iterate over the ids in the order in which the messages run, a part at a time."""
        return (id for id, _ in self._parts(Half.INDEX))

    def keys(self) -> list[str]:
        return list(self.iterate())

    def items(self) -> list[tuple[str, Any]]:
        return [(id, self.decode(id, value)) for id, value in self._parts(self.half)]

    def values(self) -> list[Any]:
        return [value for _, value in self.items()]

    def copy(self) -> dict[str, Any]:
        return dict(self.items())

    # Writing

    def setitem(self, id: str, value: Any) -> None:
        self._link.call(self.write(_checked(id), value))

    def setdefault(self, id: str, default: Any = None) -> Any:
        self._link.call(self.write(_checked(id), default, if_absent=True))
        return self.get(id, default)

    def update(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **more: Any) -> None:
        # The values are checked before any is sent; a broker's refusal of one does not stop the others.
        self._link.call_many([self.write(_checked(id), value) for id, value in dict(other, **more).items()])

    def pop(self, id: str, default: Any = _MISSING) -> Any:
        found = self._link.call(frames.ViewPop(0, self._queue, self.half, _checked(id)))
        if found is not None:
            return self.decode(id, found[0])
        if default is _MISSING:
            raise KeyError(id)
        return default

    def delitem(self, id: str) -> None:
        if self._link.call(frames.ViewPop(0, self._queue, self.half, _checked(id))) is None:
            raise KeyError(id)

    def popitem(self) -> Any:
        raise NotImplementedError(
            "popitem takes the item that was added last, which means nothing in a queue that others use: "
            "take the lock, choose an id from shared_index, and pop it from both dicts."
        )

    def clear(self) -> None:
        self._link.call(frames.ViewClear(0, self._queue))

    def show(self) -> str:
        return repr(self.copy())

    def _get(self, id: str) -> list[Any] | None:
        found: list[Any] | None = self._link.call(frames.ViewGet(0, self._queue, self.half, id))
        return found

    def _parts(self, half: Half) -> Iterator[tuple[str, Any]]:
        after: tuple[int, int, str] | None = None
        while True:
            items, rest = self._link.call(frames.ViewList(0, self._queue, half, after))
            yield from items
            if rest is None:
                return
            after = (rest[0], rest[1], rest[2])


class IndexView(DictView):
    """``shared_index``: id to ``(priority, posted_at)``."""

    half = Half.INDEX

    def decode(self, id: str, value: Any) -> tuple[int, int]:
        return (value[0], value[1])

    def items(self) -> list[tuple[str, Any]]:
        return [(id, (priority, posted_at)) for id, (priority, posted_at) in self._parts(Half.INDEX)]

    def write(self, id: str, value: Any, *, if_absent: bool = False) -> frames.ViewSet:
        priority, posted_at = value if isinstance(value, tuple | list) and len(value) == 2 else (value, None)
        for number in (priority, 0 if posted_at is None else posted_at):
            if not isinstance(number, int) or isinstance(number, bool):
                raise TypeError(f"A value of shared_index is a priority or (priority, posted_at), not {value!r}.")
        if not MIN_PRIORITY <= priority <= MAX_PRIORITY:
            raise ValueError(f"The priority {priority} is outside of {MIN_PRIORITY} to {MAX_PRIORITY}.")
        if posted_at and not if_absent:
            self._refuse_other_stamp(id, posted_at)
        return frames.ViewSet(0, self._queue, self.half, id, priority=priority, if_absent=if_absent)

    def _refuse_other_stamp(self, id: str, posted_at: int) -> None:
        """The broker's clock gives the stamps: of a message that is there, only its own may be written."""
        found = self._get(id)
        if found is not None and found[0][1] not in (0, posted_at):
            raise ValueError(
                f"Message {id!r} was posted at {found[0][1]} by the broker's clock, which {posted_at} cannot change; "
                "assign the priority alone."
            )


class QueueView(DictView):
    """``shared_queue``: id to payload."""

    half = Half.QUEUE

    def decode(self, id: str, value: Any) -> Any:
        return decode_value(value, f"message {id!r} of queue {self._queue!r}")

    def write(self, id: str, value: Any, *, if_absent: bool = False) -> frames.ViewSet:
        return frames.ViewSet(0, self._queue, self.half, id, payload=encode_value(value), if_absent=if_absent)

    def pop(self, id: str, default: Any = _MISSING) -> Any:
        """Pop the payload. One that is not readable here is not taken: it is looked at before."""
        self.get(id)
        return super().pop(id, default)


def _checked(id: Any) -> str:
    if not isinstance(id, str):
        raise TypeError(f"The keys of the dicts are message ids, which are text; {id!r} is not.")
    if not 0 < len(id) <= MAX_ID_CHARS:
        raise ValueError(f"A message id has 1 to {MAX_ID_CHARS} characters, not {len(id)}.")
    return id


#: The methods of a stock ``DictProxy``, and what answers them. Nothing is looked up by a name that came from elsewhere.
DICT_METHODS: Final[dict[str, Callable[..., Any]]] = {
    "__contains__": DictView.contains,
    "__delitem__": DictView.delitem,
    "__getitem__": DictView.getitem,
    "__iter__": DictView.iterate,
    "__len__": DictView.length,
    "__repr__": DictView.show,
    "__setitem__": DictView.setitem,
    "#GETVALUE": DictView.copy,
    "clear": DictView.clear,
    "copy": DictView.copy,
    "get": DictView.get,
    "items": lambda view: view.items(),
    "keys": DictView.keys,
    "pop": lambda view, *args: view.pop(*args),
    "popitem": DictView.popitem,
    "setdefault": DictView.setdefault,
    "update": DictView.update,
    "values": DictView.values,
}
