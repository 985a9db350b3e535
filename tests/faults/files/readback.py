"""Reading and continuing files in a process of its own: whatever happens, the campaign sees it and continues."""

import functools
import logging
import multiprocessing
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import attrs

from servomex.errors import ServomexError
from servomex.models.sample import Sample
from servomex.recording.load import load
from servomex.sinks import open_sink

HANG_S = 60.0
MOST_CPU_S = 5.0
MOST_MB = 200.0
LONGEST_TEXT = 5000
"""Characters of an error: a longer one is not for people."""

PRELOADED = ("csv", "jsonl", "sqlite", "parquet")


@attrs.frozen
class Outcome:
    """What came of it.

    Attributes:
        rows: What was read, as far as it went.
        refusal: The error of this package that ended it.
        crash: Any other end, with its traceback.
        hung: Whether it did not end.
        warned: Whether the log warned of something.
        heavy: What it took too much of.
    """

    rows: list[Sample] = attrs.field(factory=list, repr=lambda rows: f"{len(rows)} rows")
    refusal: str = ""
    crash: str = ""
    hung: bool = False
    warned: bool = False
    heavy: str = ""

    @property
    def failed(self) -> bool:
        """Whether it did not come to its end."""
        return bool(self.refusal or self.crash or self.hung)


@functools.cache
def processes() -> multiprocessing.context.ForkServerContext:
    """Return what makes processes that begin quickly: each is a copy of one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [__name__, "pandas", "pyarrow.parquet", *(f"servomex.sinks.{name}" for name in PRELOADED)]
    )
    return context


def read_back(source: list[Path] | Path) -> Outcome:
    """Load files."""
    return in_process(load, source)


def continue_file(path: Path, rows: list[Sample]) -> Outcome:
    """Append rows to a file, and load it."""
    return in_process(_continue, path, rows)


def _continue(path: Path, rows: list[Sample]) -> Any:
    with open_sink(path, append=True) as sink:
        sink.write(rows)
    yield from ()


def in_process(act: Callable[..., Any], *args: Any, limit_s: float = HANG_S) -> Outcome:
    """Iterate over what ``act`` returns, in another process.

    Args:
        act: A function of a module.
        args: Its arguments.
        limit_s: How long it may take.
    """
    receiver, sender = processes().Pipe(duplex=False)
    process = processes().Process(target=_serve, args=(sender, act, args), daemon=True)
    process.start()
    sender.close()
    with receiver:
        try:
            outcome: Outcome = receiver.recv() if receiver.poll(limit_s) else Outcome(hung=True)
        except EOFError:
            process.join()
            outcome = Outcome(crash=f"the process died with {process.exitcode}")
    process.kill()
    process.join()
    process.close()
    return outcome


def _serve(sender: Connection, act: Callable[..., Any], args: tuple[Any, ...]) -> None:
    with sender:
        sender.send(_outcome(act, args))


def _outcome(act: Callable[..., Any], args: tuple[Any, ...]) -> Outcome:
    warnings: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = warnings.append  # type: ignore[method-assign, assignment]
    logging.getLogger("servomex").addHandler(handler)
    rows: list[Sample] = []
    refusal = crash = ""
    begun, megabytes = time.process_time(), _megabytes()
    try:
        rows.extend(act(*args))
    except ServomexError as error:
        refusal = f"{type(error).__name__}: {error}"
    except BaseException:
        crash = traceback.format_exc()
    took_s, more = time.process_time() - begun, _megabytes() - megabytes
    heavy = [
        f"took {took_s:.1f} s of CPU" * (took_s > MOST_CPU_S),
        f"took {more:.0f} MB" * (more > MOST_MB),
        f"an error of {len(refusal)} characters" * (len(refusal) > LONGEST_TEXT),
    ]
    return Outcome(
        rows,
        refusal[:LONGEST_TEXT],
        crash[-LONGEST_TEXT:],
        warned=bool(warnings),
        heavy=", ".join(filter(None, heavy)),
    )


def _megabytes() -> float:
    import resource  # there is none on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
