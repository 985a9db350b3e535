"""An exception that a signal handler raises during a call is the program's own, not a failure of the port.

A handler may raise anything, such as the ``TimeoutError`` of an alarm, between any two steps of a call.
pyserial takes an ``OSError`` for its own and raises another one in its place. Only a ``BlockingIOError`` or an
``InterruptedError`` is lost where a port or a socket is being read: pyserial continues after them.
"""

import itertools
import threading
from collections.abc import Iterator
from types import FrameType


def pass_on_interruption(error: BaseException) -> None:
    """Raise the original exception of a signal handler; return if no handler had a part in this error.

    Args:
        error: The exception that was caught.
    """
    if threading.current_thread() is not threading.main_thread():  # the only one that runs signal handlers
        return
    for cause in _chain(error):
        if _leads_through_a_handler(_frames(cause)):
            raise cause from cause.__cause__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it replaced.

    An exception that the caller was already handling was caught in a frame that is not one of the error's.
    """
    frames = _frames(error)
    yield error
    while (cause := error.__context__) is not None and cause.__traceback__ is not None:
        if cause.__traceback__.tb_frame not in frames:
            return
        yield cause
        error = cause


def _frames(error: BaseException) -> list[FrameType]:
    """Return the frames of an error's traceback, beginning with the one that caught it."""
    found = []
    trace = error.__traceback__
    while trace is not None:
        found.append(trace.tb_frame)
        trace = trace.tb_next
    return found


def _leads_through_a_handler(frames: list[FrameType]) -> bool:
    """Return whether a signal handler is among them: a function that gets the frame that it interrupts."""
    return any(_is_given(inner, outer) for outer, inner in itertools.pairwise(frames))


def _is_given(frame: FrameType, interrupted: FrameType) -> bool:
    return any(
        value is interrupted or (isinstance(value, tuple) and any(item is interrupted for item in value))
        for value in frame.f_locals.values()
    )
