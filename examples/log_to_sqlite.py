"""Log an analyser to a SQLite file until Ctrl-C, then show the mean of each channel.

Readings that failed are rows with an error; the port may be unplugged and plugged in again meanwhile.
"""

import argparse
import contextlib
import sqlite3
import sys
import time

import servomex

MEANS = """
    SELECT channel, coalesce(name, ''), count(*), avg(value), unit
    FROM samples WHERE quality = 'good' GROUP BY channel, unit ORDER BY min(rowid)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", help="such as /dev/ttyUSB0, COM3 or sim://4100")
    parser.add_argument("file", help="such as burn.sqlite; an existing one is continued")
    parser.add_argument("--every", type=float, default=1.0, help="seconds from one reading to the next")
    parser.add_argument("--seconds", type=float, help="how long; until Ctrl-C when omitted")
    given = parser.parse_args()
    try:
        log(given.port, given.file, given.every, given.seconds)
    except servomex.ServomexError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def log(port: str, file: str, every_s: float, seconds: float | None) -> None:
    with (
        servomex.open_device(port) as analyzer,
        servomex.Recorder(
            analyzer, [file], sink_options={"append": True}, rate_hz=1 / every_s, duration=seconds
        ) as recorder,
        contextlib.suppress(KeyboardInterrupt),  # the regular end; a full disk is still reported
    ):
        while recorder.running:
            time.sleep(0.2)
    print(recorder.summary)
    with contextlib.closing(sqlite3.connect(file)) as database:
        for channel, name, number, mean, unit in database.execute(MEANS):
            print(f"{channel} {name}: mean {mean:.3f} {unit} of {number} good readings in the file")


if __name__ == "__main__":
    sys.exit(main())
