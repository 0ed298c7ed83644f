"""Measuring on a machine that does other things too: contenders take turns, and what counts is their ratio."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

__all__ = ["Finding", "Limit", "compare", "rounds_of"]


@dataclass(frozen=True, slots=True)
class Limit:
    """What a ratio is to be.

    Parameters:
        value: the border, which is still good.
        at_most: whether it is the highest good ratio (of costs), or the lowest one (of rates).
    """

    value: float
    at_most: bool

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.value:.2f}"

    def holds(self, ratio: float) -> bool:
        """Return whether a ratio is good."""
        return ratio <= self.value if self.at_most else ratio >= self.value


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table.

    Parameters:
        question: the benchmark that it belongs to.
        what: what was measured.
        unit: of the values.
        values: one for each round.
        peer: what it is compared to, if anything.
        ratios: this value by the peer's of the same round, one for each round.
        target: what the median of the ratios is to be.
    """

    question: str
    what: str
    unit: str
    values: tuple[float, ...]
    peer: str = ""
    ratios: tuple[float, ...] = ()
    target: Limit | None = None
    note: str = field(default="")

    @property
    def value(self) -> float:
        """The median of the values."""
        return median(self.values)

    @property
    def ratio(self) -> float | None:
        """The median of the ratios."""
        return median(self.ratios) if self.ratios else None

    @property
    def good(self) -> bool | None:
        """Whether the target is met; ``None`` without one."""
        ratio = self.ratio
        return None if self.target is None or ratio is None else self.target.holds(ratio)


def rounds_of(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, tuple[float, ...]]:
    """Let all contenders run once a round, forwards and backwards by turns, and return what each measured.

    One more round at the beginning is not counted: it fills caches, pools and the interpreter's specialised code.
    """
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-1, rounds):
        names = list(contenders) if number % 2 else list(reversed(contenders))
        for name in names:
            value = contenders[name]()
            if number >= 0:
                values[name].append(value)
    return {name: tuple(each) for name, each in values.items()}


def compare(
    question: str,
    what: str,
    unit: str,
    contenders: Mapping[str, Callable[[], float]],
    rounds: int,
    targets: Mapping[tuple[str, str], Limit | None],
) -> list[Finding]:
    """Measure contenders in interleaved rounds and compare pairs of them.

    Parameters:
        targets: for each pair of a contender and its peer, what their ratio is to be; ``None`` for no target.
    """
    values = rounds_of(contenders, rounds)
    findings: list[Finding] = []
    for name, own in values.items():
        pairs = [(peer, limit) for (first, peer), limit in targets.items() if first == name and peer in values]
        if not pairs:
            findings.append(Finding(question, f"{what}: {name}", unit, own))
        for peer, limit in pairs:
            ratios = tuple(mine / theirs for mine, theirs in zip(own, values[peer], strict=True))
            findings.append(Finding(question, f"{what}: {name}", unit, own, peer, ratios, limit))
    return findings
