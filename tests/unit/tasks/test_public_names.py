"""Every public name is there, documented, and costs nothing before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mplite_tasks


@pytest.mark.parametrize("name", mplite_tasks.__all__)
def test_a_public_name_exists_and_says_what_it_is(name: str) -> None:
    assert getattr(mplite_tasks, name).__doc__


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        mplite_tasks.no_such_name  # noqa: B018


def test_importing_the_package_imports_no_kombu() -> None:
    code = "import sys, mplite_tasks; sys.exit('kombu' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
