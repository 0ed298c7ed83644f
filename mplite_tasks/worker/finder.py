"""Finding the app that ``-A`` names, as Celery does."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Final

from ..app import MPLite
from ..errors import AppNotFound

__all__ = ["find_app", "module_exists", "search_here"]

#: Attributes of a module that are looked at first.
_ATTRIBUTES: Final = ("app", "mplite", "celery")

#: Submodules of a package that are looked into when the package itself has no app.
_SUBMODULES: Final = ("app", "tasks", "mplite", "celery")


def find_app(name: str) -> MPLite:
    """Return the app that a name stands for, importing what that needs, and its ``include`` modules.

    ``proj:app`` is the attribute ``app`` of the module ``proj``. ``proj`` is a module with an attribute ``app``, or
    with one MPLite object of any name, or a package with such a submodule ``app`` or ``tasks``. ``proj.app`` is a
    module, or else an attribute. The working directory is searched too.

    Raises :class:`AppNotFound`, which says what was looked at; and what the app's own code raises when it is imported.
    """
    search_here()
    module_name, colon, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (module_name + ("." + attribute if colon else "")).split(".")):
        raise AppNotFound(f"-A {name}: not a name like proj, proj.app or proj:app.")
    app = _by_attribute(_import(module_name, name), attribute, name) if colon else _by_name(name)
    for module in app.include:
        importlib.import_module(module)
    return app


def search_here() -> None:
    """Have modules in the working directory found, as ``python -m`` does."""
    directory = os.getcwd()  # noqa: PTH109 - sys.path holds strings
    if directory not in sys.path:
        sys.path.insert(0, directory)


def _by_name(name: str) -> MPLite:
    parent, _, last = name.rpartition(".")
    if parent and not module_exists(name):
        return _by_attribute(_import(parent, name), last, name)
    module = _import(name, name)
    app = _inside(module)
    if app is not None:
        return app
    for submodule in _SUBMODULES if hasattr(module, "__path__") else ():
        if module_exists(f"{name}.{submodule}"):
            app = _inside(_import(f"{name}.{submodule}", name))
            if app is not None:
                return app
    raise AppNotFound(
        f"-A {name}: the module {name} has no MPLite app, or more than one; name it: -A {name}:attribute."
    )


def _by_attribute(module: ModuleType, attribute: str, name: str) -> MPLite:
    value: object = module
    for part in attribute.split("."):
        value = getattr(value, part, None)
    if isinstance(value, ModuleType):
        value = _inside(value)
    if not isinstance(value, MPLite):
        what = "nothing there" if value is None else f"a {type(value).__name__} there"
        raise AppNotFound(f"-A {name}: {module.__name__} has no MPLite app at {attribute!r}; there is {what}.")
    return value


def _inside(module: ModuleType) -> MPLite | None:
    for attribute in _ATTRIBUTES:
        value = getattr(module, attribute, None)
        if isinstance(value, MPLite):
            return value
    apps = {id(value): value for value in vars(module).values() if isinstance(value, MPLite)}
    return next(iter(apps.values())) if len(apps) == 1 else None


def module_exists(module: str) -> bool:
    """Return whether there is a module of this name to import. Imports the packages that it is in."""
    parent = module.rpartition(".")[0]
    if parent and (not module_exists(parent) or not hasattr(_import(parent, parent), "__path__")):
        return False
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # a module that was made without a spec, such as one made by hand
        return module in sys.modules


def _import(module: str, name: str) -> ModuleType:
    if not module_exists(module):
        raise AppNotFound(f"-A {name}: there is no module {module!r} in {os.getcwd()} or on the Python path.")  # noqa: PTH109 - shown
    return importlib.import_module(module)
