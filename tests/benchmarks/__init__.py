"""Benchmarks: ``make bench``. Every number stands beside its peer's from the same run, as a ratio."""
