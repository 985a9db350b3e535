"""Run an autocalibration, show how far it is, and report what it changed.

It moves calibration gas and takes the channels of the group off their sample. Ctrl-C stops it.
"""

import argparse
import signal
import sys

import servomex


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", help="such as /dev/ttyUSB0, COM3 or sim://4100")
    parser.add_argument("group", type=int, choices=range(1, 5), help="calibration group, as set on the panel")
    parser.add_argument("--minutes", type=float, default=30.0, help="it is stopped when it takes longer")
    parser.add_argument("--settle", type=float, default=10.0, help="seconds on sample after which it has ended")
    parser.add_argument("--yes", action="store_true", help="needed: calibration gas will flow")
    given = parser.parse_args()
    for name in ("SIGTERM", "SIGBREAK"):  # a kill, and Ctrl-Break on Windows, stop the calibration as Ctrl-C does
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    try:
        with servomex.open_device(given.port) as analyzer:
            report = analyzer.calibrate(
                given.group,
                confirm=given.yes,
                timeout=60 * given.minutes,
                settle=given.settle,
                on_progress=show,
            )
    except (servomex.ServomexError, KeyboardInterrupt) as error:
        notes = getattr(error, "__notes__", [])  # they say whether it was stopped
        print(*filter(None, [str(error), *notes]), sep="\n", file=sys.stderr)
        return 1
    print_report(report)
    return 0


def show(progress: servomex.CalibrationProgress) -> None:
    values = [] if progress.frame is None else [item for item in progress.frame if item.status.calibrating]
    shown = ", ".join(f"{item.name or item.channel} {item:.3f} {item.unit_text}" for item in values)
    print(f"{progress.elapsed_s or 0:6.1f} s  {progress.phase:9}  {shown}", flush=True)


def print_report(report: servomex.CalibrationReport) -> None:
    for phase in report.phases:
        print(f"{phase.started_at:%H:%M:%S} UTC {phase.phase}, {phase.duration_s:.0f} s")
    print(f"{report.ended_at:%H:%M:%S} UTC on sample, seen for {report.settled_s:.0f} s")
    for before, after in zip(report.readings_before, report.readings_after, strict=True):
        print(f"{before.name or before.channel}: {before:.3f} {before.unit_text} before, {after:.3f} after")
    for note in report.notes:
        print(note)
    if report.failed_looks:
        print(f"the analyser could not be read {report.failed_looks} times meanwhile")


if __name__ == "__main__":
    sys.exit(main())
