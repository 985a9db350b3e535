"""``python -m tests.benchmarks [NAME...]``: tables on stdout, progress on stderr when that is a terminal."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from tests.benchmarks import (
    broadcasting,
    detection,
    files,
    growth,
    lossy,
    managing,
    memory,
    opening,
    parsing,
    ready,
    recorders,
    startup,
    sweeps,
)
from tests.benchmarks.comparison import ROWS
from tests.benchmarks.figures import Result, Skipped, Unavailable, aligned, table
from tests.benchmarks.machine import Settings, described, facts
from tests.benchmarks.standing import figures_of, standing

Benchmark = Callable[[Settings], Iterator[Result]]
BENCHMARKS: dict[str, Benchmark] = {
    "parse": parsing.parse,
    "split": parsing.split,
    "sweep": sweeps.sweep,
    "cost": sweeps.cost,
    "lossy": lossy.lossy,
    "opening": opening.opening,
    "once": opening.once,
    "latency": broadcasting.latency,
    "throughput": broadcasting.throughput,
    "idle": broadcasting.idle,
    "auto": detection.auto,
    "recorder": recorders.recorder,
    "sinks": files.sinks,
    "ready": ready.ready,
    "load": files.loading,
    "manager": managing.manager,
    "startup": startup.startup,
    "memory": memory.memory,
    "growth": growth.growth,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run benchmarks.

    Returns:
        0, or 1 when one of them failed. A goal that is missed is no failure.
    """
    wanted = _parsed(arguments)
    if wanted.list:
        _write("".join(f"{name:12}{_title(benchmark)}\n" for name, benchmark in BENCHMARKS.items()))
        return 0
    report: dict[str, Any] = {"machine": facts(), "quick": wanted.quick, "benchmarks": {}}
    _write("\n".join(described(report["machine"])) + "\n")
    settings = Settings(wanted.quick, wanted.seconds, wanted.rows)
    for name in wanted.names or BENCHMARKS:
        report["benchmarks"][name] = _run(name, settings)
        report["standing"] = standing(figures_of(report), ROWS)
        if wanted.json is not None:  # after each, since all of them take a while
            wanted.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if report["standing"]:
        _write("\n" + "\n".join(aligned(report["standing"])) + "\n")
    return int(any("error" in found for found in report["benchmarks"].values()))


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; all of them when omitted")
    parser.add_argument(
        "-j", "--json", type=Path, metavar="FILE", help="write all figures, and the machine, there"
    )
    parser.add_argument("-l", "--list", action="store_true", help="list the benchmarks and end")
    parser.add_argument("-q", "--quick", action="store_true", help="see that they work, rather than measure")
    parser.add_argument("-s", "--seconds", type=float, help="how long 'idle' looks at a reader; 60 when omitted")
    parser.add_argument(
        "-r", "--rows", type=int, help="how many rows 'growth' writes at most; 1000000 when omitted"
    )
    wanted = parser.parse_args(arguments)
    unknown = [name for name in wanted.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    return wanted


def _run(name: str, settings: Settings) -> dict[str, Any]:
    """Run one, write its table, and give its figures and how it ended."""
    benchmark, results, error = BENCHMARKS[name], list[Result](), None
    begun = time.monotonic()
    try:
        for result in benchmark(attrs.evolve(settings, say=lambda text: _progress(f"{name}: {text}"))):
            results.append(result)
    except Unavailable as missing:
        results.append(Skipped("all others", str(missing)))
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
    seconds = time.monotonic() - begun
    _progress("")
    lines = [f"{name}: {_title(benchmark)} ({seconds:.0f} s)", *(table(results) if results else [])]
    _write("\n" + "\n".join(lines) + "\n")
    if error is not None:
        sys.stderr.write(f"Error: benchmark {name} failed: {error}\n")
    found = {"seconds": round(seconds, 1), "figures": [item.as_dict() for item in results]}
    return found if error is None else {**found, "error": error}


def _title(benchmark: Benchmark) -> str:
    return (benchmark.__doc__ or "").partition("\n")[0].rstrip(".")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
