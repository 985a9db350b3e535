"""Folders that hand names of their modules on, and import a module when the first of its names is asked for."""

import importlib
import sys
from collections.abc import Callable, Mapping


def hand_on(folder: str, modules: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and the ``__dir__`` of a folder.

    A folder that imported its modules itself could lock up two threads, of which one imports the folder and the
    other a module in it.

    Args:
        folder: Its ``__name__``.
        modules: Its modules, each with the names that it gives, divided by spaces.
    """
    module_of = {name: f"{folder}.{module}" for module, names in modules.items() for name in names.split()}

    def find(name: str) -> object:
        if name == "__all__":
            return sorted(module_of)
        if name not in module_of:
            raise AttributeError(f"module {folder!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(module_of[name]), name)
        setattr(sys.modules[folder], name, found)
        return found

    def names() -> list[str]:
        return sorted({*module_of, *(name for name in vars(sys.modules[folder]) if name.startswith("__"))})

    return find, names
