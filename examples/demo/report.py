"""What a person sees: a progress bar while it works, and one screen at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .proof import Span, Verdict

__all__ = ["findings", "progress", "show"]

_SHOWN = 3


def progress(console: Console) -> Progress:
    """Return the progress bar."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def show(
    console: Console,
    *,
    seconds: float,
    ordinary: Sequence[Span],
    urgent: Sequence[Span],
    found: Sequence[str],
    verdict: Verdict,
) -> None:
    """Print the final screen."""
    console.print()
    rate = (len(ordinary) + len(urgent)) / seconds
    console.print(f"[bold]{len(ordinary):,} files[/] analysed in {seconds:.1f} s: {rate:,.0f} jobs/s")
    console.print(waits(ordinary, urgent))
    console.print("[bold]Found on the way[/]")
    for line in found:
        console.print(f"  {line}", highlight=False)
    console.print()
    for problem, ids in (
        ("lost", verdict.lost),
        ("run twice", verdict.repeated),
        ("started while an urgent one waited", verdict.overtaken),
    ):
        style = "red" if ids else "green"
        console.print(f"  [{style}]{len(ids)} jobs {problem}[/] {' '.join(ids[:_SHOWN])}", highlight=False)


def waits(ordinary: Sequence[Span], urgent: Sequence[Span]) -> Table:
    """Return how long the two kinds of jobs waited, side by side."""
    table = Table("seconds waited", "urgent (priority 9)", "ordinary (priority 0)")
    rows: dict[str, Callable[[list[float]], float]] = {
        "median": lambda waited: waited[len(waited) // 2],
        "95 of 100 less than": lambda waited: waited[int(len(waited) * 0.95)],
        "longest": lambda waited: waited[-1],
    }
    kinds = [sorted(job.wait for job in jobs) for jobs in (urgent, ordinary)]
    table.add_row("jobs", *(f"{len(kind):,}" for kind in kinds))
    for name, of in rows.items():
        table.add_row(name, *(f"{of(kind):.4f}" if kind else "-" for kind in kinds))
    return table


def findings(facts: Mapping[str, Mapping[str, Any]], root: Path) -> list[str]:
    """Return what the analysis says about the files, in a few lines."""

    def name(path: str) -> str:
        return str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else Path(path).name

    def best(key: Callable[[str], float]) -> str:
        return max(facts, key=key)

    def ratio(path: str) -> float:
        return float(facts[path]["bytes"] / max(facts[path]["compressed"], 1))

    largest = best(lambda path: facts[path]["lines"])
    hardest = best(lambda path: facts[path]["hardest"][1])
    longest = best(lambda path: facts[path]["longest"][1])
    tightest = best(ratio)
    imports = Counter(package for each in facts.values() for package in each["imports"])
    popular = ", ".join(f"{package} ({times:,})" for package, times in imports.most_common(_SHOWN))
    return [
        f"{sum(f['lines'] for f in facts.values()):,} lines, {sum(f['functions'] for f in facts.values()):,} functions",
        f"largest file: {name(largest)}, {facts[largest]['lines']:,} lines",
        f"hardest function: {facts[hardest]['hardest'][0]} in {name(hardest)}, "
        f"about {facts[hardest]['hardest'][1]} ways through it",
        f"longest function: {facts[longest]['longest'][0]} in {name(longest)}, {facts[longest]['longest'][1]:,} lines",
        f"compresses best: {name(tightest)}, to 1/{ratio(tightest):.0f} of its size",
        f"most imported: {popular}",
    ]
