"""What all frames are."""

from __future__ import annotations

import msgspec

__all__ = ["Frame"]


class Frame(msgspec.Struct, array_like=True, gc=False):
    """A msgpack array whose first element is the frame's number."""
