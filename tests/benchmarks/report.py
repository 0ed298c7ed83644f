"""What was found, as a table for people and as JSON for programs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .harness import Finding
from .servers import server_versions

__all__ = ["environment", "print_table", "write_json"]

_PACKAGES = ("mplite-tasks", "kombu", "msgspec", "sortedcontainers", "celery", "redis", "amqp")


def environment() -> dict[str, Any]:
    """Return what the figures depend on, and nothing that names the machine."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": platform.system(),
        "load": round(os.getloadavg()[0], 1),
        **versions,
        **server_versions(),
    }


def print_table(findings: Sequence[Finding], facts: dict[str, Any]) -> None:
    """Print the findings to standard output."""
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    table = Table(caption=", ".join(f"{name} {value}" for name, value in facts.items()), caption_justify="left")
    for column in ("what", "median (min .. max)", "unit", "compared to", "ratio (min .. max)", "target", ""):
        table.add_column(column, justify="right" if column.startswith(("median", "ratio")) else "left")
    question = ""
    for finding in findings:
        if finding.question != question:
            question = finding.question
            table.add_section()
            table.add_row(f"[bold]{question}[/]")
        table.add_row(*_cells(finding))
    console.print(table)


def write_json(path: Path, findings: Sequence[Finding], facts: dict[str, Any]) -> None:
    """Write the findings to a file."""
    rows = [
        {**asdict(each), "value": each.value, "ratio": each.ratio, "good": each.good, "target": str(each.target or "")}
        for each in findings
    ]
    path.write_text(json.dumps({"environment": facts, "findings": rows}, indent=1, ensure_ascii=False) + "\n")


def _cells(finding: Finding) -> tuple[str, ...]:
    verdict = {None: "", True: "met", False: "[bold]MISSED[/]"}[finding.good]
    ratio = "" if finding.ratio is None else _spread(finding.ratio, finding.ratios)
    what = f"{finding.what} ({finding.note})" if finding.note else finding.what
    target = "" if finding.target is None else str(finding.target)
    return (what, _spread(finding.value, finding.values), finding.unit, finding.peer, ratio, target, verdict)


def _spread(middle: float, values: Sequence[float]) -> str:
    return (
        _number(middle) if len(values) == 1 else f"{_number(middle)} ({_number(min(values))} .. {_number(max(values))})"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
