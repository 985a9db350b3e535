"""Which steps from line to line of some modules a call takes, by the interpreter's own tracing."""

import sys
from collections.abc import Callable
from types import CodeType, FrameType, ModuleType
from typing import Any, TypeVar

T = TypeVar("T")
Arc = tuple[CodeType, int, int]
Line = tuple[str, int]


class Tracer:
    """Watches modules while a call runs. Only the calling thread is watched.

    Args:
        modules: The modules.

    Attributes:
        arcs: All steps so far.
    """

    def __init__(self, modules: list[ModuleType]) -> None:
        self._files = {str(module.__file__) for module in modules}
        self._lines = {line for module in modules for line in _lines_of(module)}
        self.arcs: set[Arc] = set()
        self._now: set[Arc] = set()
        self._last: dict[FrameType, int] = {}

    @property
    def lines(self) -> set[Line]:
        """The lines that were run, by file."""
        return {(code.co_filename, line) for code, _, line in self.arcs} & self._lines

    @property
    def all_lines(self) -> set[Line]:
        """All lines of the functions of the modules."""
        return self._lines

    def new_arcs(self, call: Callable[[], T]) -> tuple[int, T]:
        """Run a call, and tell how many steps it took that none before took, and what it gave."""
        self._now = set()
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            result = call()
        finally:
            sys.settrace(before)
            self._last.clear()
            fresh = len(self._now - self.arcs)
            self.arcs |= self._now
        return fresh, result

    def _enter(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        self._last[frame] = 0
        return self._step

    def _step(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "line":
            self._now.add((frame.f_code, self._last.get(frame, 0), frame.f_lineno))
            self._last[frame] = frame.f_lineno
        elif event == "return":
            self._last.pop(frame, None)
        return self._step


def _lines_of(module: ModuleType) -> set[Line]:
    """The lines of all functions of a module; those that run when it is imported are left out."""
    file = str(module.__file__)
    with open(file, encoding="utf-8") as source:  # noqa: PTH123
        waiting = [compile(source.read(), file, "exec")]
    found: set[Line] = set()
    while waiting:
        code = waiting.pop()
        waiting += [item for item in code.co_consts if isinstance(item, CodeType)]
        if code.co_name != "<module>" and code.co_flags & 0x2:  # a function's, and not a class body's
            first = code.co_firstlineno
            found |= {(file, line) for _, _, line in code.co_lines() if line and line != first}
    return found
