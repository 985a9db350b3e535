"""Tell when an alarm is raised or cleared, until Ctrl-C. Usage: python watch_alarms.py [PORT]."""

import contextlib
import sys
import time

import servomex

Alarms = set[tuple[str, int]]


def raised(frame: servomex.Frame) -> Alarms:
    return {
        (reading.name or reading.channel, number)
        for reading in frame
        for number, alarm in enumerate(reading.status.alarms, 1)
        if alarm
    }


def watch(analyzer: servomex.Analyzer) -> None:
    before: Alarms = set()
    while True:
        try:
            now = raised(analyzer.poll())
        except servomex.ServomexError as error:  # the line may recover: go on, but do not take it for "no alarm"
            print(f"no reading: {error}", flush=True)
        else:
            for channel, number in sorted(now ^ before):
                change = "raised" if (channel, number) in now else "cleared"
                print(f"{channel}: alarm {number} {change}", flush=True)
            before = now
        time.sleep(1)


if __name__ == "__main__":
    port = sys.argv[1] if len(sys.argv) > 1 else "sim://moving"
    with contextlib.suppress(KeyboardInterrupt), servomex.open_device(port) as opened:
        watch(opened)
