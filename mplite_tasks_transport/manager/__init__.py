"""The queue as ``multiprocessing`` manager dicts: stock proxies, our frames, nothing pickled on the wire."""

from __future__ import annotations

from .manager import MPLiteManager

__all__ = ["MPLiteManager"]
