"""``PriorityQueue``: a priority queue between processes and machines, with the methods of ``queue.PriorityQueue``."""

from __future__ import annotations

from .sync import PriorityQueue

__all__ = ["PriorityQueue"]
