"""Run the benchmarks: ``python -m tests.benchmarks [NAME …] [--rounds N] [--json FILE]``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from . import backlog, durability, kombu_rates, latency, noop_tasks
from .harness import Finding
from .report import environment, print_table, write_json

_BENCHMARKS: dict[str, Callable[[int], list[Finding]]] = {
    "backlog": backlog.run,
    "kombu": kombu_rates.run,
    "tasks": noop_tasks.run,
    "durability": durability.run,
    "latency": latency.run,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(_BENCHMARKS)))
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Interleaved rounds of each.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the findings to this file too.")
def main(names: tuple[str, ...], rounds: int, json_file: Path | None) -> None:
    """Measure, as ratios to peers in the same run. Without NAMES, everything: about seven minutes."""
    findings: list[Finding] = []
    for name in names or _BENCHMARKS:
        click.echo(f"{name} …", err=True)
        findings += _BENCHMARKS[name](rounds)
    facts = environment()
    print_table(findings, facts)
    if json_file is not None:
        write_json(json_file, findings, facts)


if __name__ == "__main__":
    main()
