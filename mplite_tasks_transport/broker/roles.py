"""Roles: what a user may do, by a table of the protocol's frames that is written out by hand."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

from .. import frames
from ..errors import AccessRefused

__all__ = ["ALL_ROLES", "Role", "refuse", "refused_frames"]


class Role(Enum):
    """What a user is for."""

    PRODUCE = "produce"
    CONSUME = "consume"
    MANAGE = "manage"


ALL_ROLES: Final = frozenset(Role)

_PRODUCE: Final = frozenset({Role.PRODUCE})
_CONSUME: Final = frozenset({Role.CONSUME})
_MANAGE: Final = frozenset({Role.MANAGE})

#: For each request the roles of which one is needed; nothing for those that everybody may make.
_NEEDED: Final[dict[type[Any], frozenset[Role]]] = {
    frames.OpenChannel: frozenset(),
    frames.CloseChannel: frozenset(),
    frames.Ping: frozenset(),
    frames.Status: frozenset(),
    frames.StopWaiting: frozenset(),
    frames.ViewCount: frozenset(),
    frames.WaitDrained: frozenset(),
    # Who sends and who receives both make sure that what they use is there.
    frames.DeclareExchange: ALL_ROLES,
    frames.DeclareQueue: ALL_ROLES,
    frames.BindQueue: ALL_ROLES,
    frames.AcquireLock: ALL_ROLES,
    frames.ReleaseLock: ALL_ROLES,
    frames.GetResult: ALL_ROLES,
    frames.WaitResult: ALL_ROLES,
    frames.ForgetResults: ALL_ROLES,
    frames.Publish: _PRODUCE,
    frames.ViewSet: _PRODUCE,
    frames.CancelMessage: _PRODUCE | _MANAGE,
    frames.Reprioritise: _PRODUCE | _MANAGE,
    frames.Position: ALL_ROLES,
    frames.Consume: _CONSUME,
    frames.CancelConsumer: _CONSUME,
    frames.Qos: _CONSUME,
    frames.Credit: _CONSUME,
    frames.Ack: _CONSUME,
    frames.Reject: _CONSUME,
    frames.Recover: _CONSUME,
    frames.Get: _CONSUME,
    frames.Started: _CONSUME,
    frames.Settle: _CONSUME,
    frames.StoreResult: _CONSUME,
    frames.Identify: _CONSUME,
    frames.ViewPop: _CONSUME,
    frames.ViewList: _CONSUME | _MANAGE,
    frames.ViewGet: _CONSUME | _MANAGE,
    frames.AcquireQueueLock: _CONSUME,
    frames.ReleaseQueueLock: _CONSUME,
    frames.DeleteExchange: _MANAGE,
    frames.DeleteQueue: _MANAGE,
    frames.UnbindQueue: _MANAGE,
    frames.PurgeQueue: _MANAGE,
    frames.ViewClear: _MANAGE,
}


def refused_frames(roles: Iterable[Role]) -> frozenset[type[Any]]:
    """Return the requests that somebody with these roles may not make."""
    has = frozenset(roles)
    return frozenset(frame for frame, needed in _NEEDED.items() if needed and not needed & has)


def refuse(refused: frozenset[type[Any]], user: str, frame: frames.Request) -> None:
    """Raise :class:`AccessRefused` if a request, or a publish within it, is among the refused ones."""
    kinds = [type(frame)]
    if type(frame) is frames.Settle and frame.publish:
        kinds.append(frames.Publish)
    for kind in kinds:
        if kind in refused:
            roles = " or ".join(sorted(role.value for role in _NEEDED[kind]))
            raise AccessRefused(f"User {user!r} may not do this: {kind.__name__} needs the role {roles}.")
