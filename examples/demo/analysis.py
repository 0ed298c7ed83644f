"""What is worked out about one source file: parse, measure, compress. Plain functions that know nothing of queues."""

from __future__ import annotations

import ast
import lzma
import warnings
from pathlib import Path
from typing import Any

__all__ = ["analyse", "outline"]

_BRANCHES = (ast.If, ast.For, ast.While, ast.ExceptHandler, ast.With, ast.BoolOp, ast.IfExp, ast.comprehension)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def parse(path: Path) -> ast.Module | None:
    """Return a file's syntax tree; ``None`` if it is not Python of this version (the library has such test data)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return None


def analyse(path: Path) -> dict[str, Any]:
    """Return the measures of one file."""
    data = path.read_bytes()
    facts: dict[str, Any] = {
        "lines": data.count(b"\n"),
        "bytes": len(data),
        "compressed": len(lzma.compress(data)),
        "functions": 0,
        "imports": [],
        "hardest": ["", 0],
        "longest": ["", 0],
    }
    tree = parse(path)
    if tree is None:
        return facts
    functions = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
    facts["functions"] = len(functions)
    facts["imports"] = sorted(imported(tree))
    if functions:
        hardest = max(functions, key=branches)
        longest = max(functions, key=length)
        facts["hardest"] = [hardest.name, branches(hardest)]
        facts["longest"] = [longest.name, length(longest)]
    return facts


def branches(function: ast.AST) -> int:
    """Return how many ways there are through a function, about: McCabe's number."""
    return 1 + sum(isinstance(node, _BRANCHES) for node in ast.walk(function))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def imported(tree: ast.Module) -> set[str]:
    """Return the top-level packages that a module imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def outline(path: Path) -> list[str]:
    """Return the names of the classes and functions at the top of a file: what somebody in a hurry wants to know."""
    tree = parse(path)
    return [] if tree is None else [node.name for node in tree.body if isinstance(node, (*_FUNCTIONS, ast.ClassDef))]
