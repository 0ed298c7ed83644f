"""Whether the demo kept its promises, by the broker's own stamps and the workers' own record of their runs."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Span", "Verdict", "judge"]


@dataclass(frozen=True, slots=True)
class Span:
    """When one job came and when it was handed out, in microseconds by the broker's clock."""

    id: str
    posted_at: int
    started_at: int

    @property
    def wait(self) -> float:
        """Seconds that it waited."""
        return (self.started_at - self.posted_at) / 1_000_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What went wrong, by the ids of the jobs; nothing, if all three are empty."""

    lost: list[str]
    repeated: list[str]
    overtaken: list[str]

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.repeated or self.overtaken)


def judge(sent: Iterable[str], runs: Sequence[str], ordinary: Sequence[Span], urgent: Sequence[Span]) -> Verdict:
    """Return the verdict.

    Parameters:
        sent: the ids of all jobs that the broker confirmed.
        runs: the id of each run, as the workers recorded them.
        ordinary, urgent: the stamps of the jobs that came back.
    """
    count = Counter(runs)
    starts = sorted((job.started_at, job.id) for job in ordinary)
    overtaken = [
        starts[i][1]
        for job in urgent
        for i in range(bisect_left(starts, (job.posted_at, "")), bisect_left(starts, (job.started_at, "")))
    ]
    came_back = {job.id for job in (*ordinary, *urgent)}
    return Verdict(
        lost=[id for id in sent if id not in came_back or not count[id]],
        repeated=[id for id, times in count.items() if times > 1],
        overtaken=overtaken,
    )
