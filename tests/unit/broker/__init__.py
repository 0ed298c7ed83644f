"""Tests of the broker core: no sockets, no files, a clock that the tests set."""
