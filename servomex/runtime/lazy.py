"""Folders that pass on names of their modules, and import a module when one of its names is first used."""

import importlib
import sys
from collections.abc import Callable, Mapping


def hand_on(folder: str, modules: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and the ``__dir__`` of a folder.

    So a program starts fast, and loads only what it uses. If several threads ask at once, one imports and the
    others wait. A folder that imported its modules itself could deadlock two threads, one importing the folder and
    the other a module in it.

    Args:
        folder: Its ``__name__``.
        modules: Its modules, each with the names that it provides, separated by spaces. One without names is
            itself public.
    """
    module_of = {name: f"{folder}.{module}" for module, names in modules.items() for name in names.split()}
    public = sorted({*module_of, *(module for module, names in modules.items() if not names)})

    def find(name: str) -> object:
        if name == "__all__":
            return public
        if name in module_of:
            found = getattr(importlib.import_module(module_of[name]), name)
            setattr(sys.modules[folder], name, found)
            return found
        if name in modules:
            return importlib.import_module(f"{folder}.{name}")
        raise AttributeError(f"module {folder!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*public, *(name for name in vars(sys.modules[folder]) if name.startswith("__"))})

    return find, names
