"""Read every channel once. Usage: python read_once.py [PORT]."""

import sys

import servomex


def main(port: str) -> int:
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
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "sim://4100"))
