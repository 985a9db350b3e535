"""Records as ``servomex record`` does: ``python -m tests.faults.files.child LOG READY PORT OUT...``.

With ``numbered:NAME`` in the place of a port it records a source that numbers its readings, which needs no time to
read. Everything else is the command as it is.
"""

import signal
import sys
from pathlib import Path
from typing import Any

import servomex.cli
import servomex.cli.connection
from servomex.cli.connection import Connection
from tests.faults.files.numbered import NumberedSource

NUMBERED = "numbered:"


def main() -> None:
    """Record."""
    log, ready, port = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    if port.startswith(NUMBERED):

        def open_numbered(_request: Connection, _channels: Any = None) -> NumberedSource:
            return NumberedSource(port.removeprefix(NUMBERED), log)

        Connection.open = open_numbered  # type: ignore[method-assign, assignment]
    sys.argv[1:] = ["record", *sys.argv[3:]]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of the background ignores it
    ready.touch()
    servomex.cli.main()


if __name__ == "__main__":
    main()
