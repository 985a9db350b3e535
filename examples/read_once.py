"""Read every channel once and print it."""

import argparse
import sys

import servomex


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", help="such as /dev/ttyUSB0, COM3 or sim://4100")
    port = parser.parse_args().port
    try:
        with servomex.open_device(port) as analyzer:
            frame = analyzer.poll()
    except servomex.ServomexError as error:
        print(error, file=sys.stderr)
        return 1
    for reading in frame:
        note = "" if reading.quality == servomex.Quality.GOOD else f" ({reading.quality})"
        print(f"{reading.name or reading.channel}: {reading:.3f} {reading.unit_text}{note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
