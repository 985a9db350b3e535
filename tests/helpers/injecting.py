"""Interrupts at every moment at which CPython could deliver one."""

import inspect
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any


class Injector:
    """Raises KeyboardInterrupt at the n-th moment in which CPython could deliver one, in some modules.

    These are the entry of a function, a call of the interpreter's own that blocks, and the return from any call of
    its own. What a generator raises as it is thrown away is lost, so none is interrupted. A tracer that raises at
    each line would also do so where CPython never does: at the end of a ``with`` block, before its ``__exit__``.
    """

    def __init__(self, moment: int, inside: frozenset[str]) -> None:
        self.left = moment
        self.inside = inside
        self.hit = ""

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        code: CodeType = frame.f_code
        blocks = event == "c_call" and arg.__name__ == "acquire"
        if (
            self.left < 0
            or code.co_flags & inspect.CO_GENERATOR
            or not (blocks or event in ("call", "c_return"))
            or code.co_filename not in self.inside
        ):
            return
        self.left -= 1
        if self.left < 0:
            self.hit = f"{event} in {code.co_name}, line {frame.f_lineno}: {arg!r}"
            raise KeyboardInterrupt

    def run(self, call: Callable[[], object]) -> bool:
        """Call in this thread; return whether it was interrupted."""
        sys.setprofile(self)
        try:
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.setprofile(None)
        return False
