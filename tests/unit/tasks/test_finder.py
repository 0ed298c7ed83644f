"""The app is found where Celery would find it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mplite_tasks import AppNotFound
from mplite_tasks.worker.finder import find_app

APP = "from mplite_tasks import MPLite\n{} = MPLite({!r}, 'memory://')\n"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    files = {
        "fp_module.py": APP.format("app", "module"),
        "fp_other.py": APP.format("whatever", "other"),
        "fp_two.py": APP.format("one", "one") + APP.format("two", "two"),
        "fp_package/__init__.py": "",
        "fp_package/tasks.py": APP.format("app", "in tasks"),
        "fp_package/deep/__init__.py": "",
        "fp_package/deep/app.py": APP.format("main", "deep"),
        "fp_included.py": APP.format("app", "included").replace("'memory://'", "'memory://', include=['fp_more']"),
        "fp_more.py": "from fp_included import app\n@app.task(name='more')\ndef more(): pass\n",
        "fp_broken.py": "import fp_does_not_exist\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("fp_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("fp_module", "module"),
        ("fp_module:app", "module"),
        ("fp_module.app", "module"),
        ("fp_other", "other"),
        ("fp_other:whatever", "other"),
        ("fp_two:two", "two"),
        ("fp_two.one", "one"),
        ("fp_package", "in tasks"),
        ("fp_package.tasks", "in tasks"),
        ("fp_package.tasks:app", "in tasks"),
        ("fp_package.deep", "deep"),
        ("fp_package.deep.app", "deep"),
        ("fp_package.deep.app.main", "deep"),
    ],
)
def test_an_app_is_found_by_each_of_its_names(name: str, found: str) -> None:
    assert find_app(name).name == found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fp_nothing", "there is no module 'fp_nothing'"),
        ("fp_module.nothing", "has no MPLite app at 'nothing'; there is nothing there"),
        ("fp_module:MPLite", "there is a type there"),
        ("fp_two", "no MPLite app, or more than one"),
        ("fp_nothing.app", "there is no module 'fp_nothing'"),
        ("../fp_module", "not a name"),
        ("fp_module:", "not a name"),
        ("", "not a name"),
    ],
)
def test_an_app_that_is_not_there_is_an_error_that_says_what_was_looked_at(name: str, text: str) -> None:
    with pytest.raises(AppNotFound, match=text):
        find_app(name)


def test_an_error_in_the_apps_module_is_its_own() -> None:
    with pytest.raises(ModuleNotFoundError, match="fp_does_not_exist"):
        find_app("fp_broken")


def test_the_modules_that_the_app_includes_are_imported() -> None:
    assert "more" in find_app("fp_included").tasks
