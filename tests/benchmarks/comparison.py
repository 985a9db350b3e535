"""The rows of the last table: which figure is compared with which, and what it is to reach.

pymodbus and minimalmodbus are measured in the same run. The asynchronous reference, servomexlib, cannot be
installed: it stands here as it was measured beside the driver and these two on one machine with Python 3.13.
Where the processor takes the time, it is a multiple of pymodbus, of ``csv.writer`` or of the simple parser in the
present run, since a faster machine makes all of them faster; where a paced line takes it, of minimalmodbus. Where
gaps or the clock take it, it is the value itself. For files it was measured beside the encoders of that time, for
CSV 7.6 times as slow as ``csv.writer``.
"""

from collections.abc import Sequence

from tests.benchmarks.standing import Peer, Row, Target

AHEAD = (Target(1.0, "best"),)


def _reference(factor: float, figure: str | None = None) -> Peer:
    return Peer("servomexlib", figure, factor)


def _client(case: str, name: str) -> Peer:
    return Peer(name, f"{case}, {name}", ratio=f"{case}, servomex / {name}")


def _written(
    title: str,
    suffix: str,
    size: int,
    of_csv_writer: float,
    yardstick: str | None,
    targets: Sequence[Target],
    near: float = 0.2,
) -> Row:
    """Rows into a file: servomexlib wrote so many for each one of ``csv.writer`` with ready tuples."""
    case = f"{suffix}, batches of {size}"
    return Row(
        f"{title}, batches of {size}",
        "ready",
        f"{case}, servomex",
        [_reference(of_csv_writer, f".csv, batches of {size}, csv.writer")],
        targets,
        f"{case}, {yardstick}" if yardstick else None,
        near,
        more=True,
    )


TWICE, MOST = Target(2.0, "best"), Target(0.8, "bound")
FILES = [
    _written("rows to CSV", ".csv", 5, 0.241, "csv.writer", [TWICE, MOST]),
    _written("rows to CSV", ".csv", 500, 0.248, "csv.writer", [TWICE, MOST]),
    _written("rows to JSON lines", ".jsonl", 5, 0.253, None, [TWICE]),
    _written("rows to JSON lines", ".jsonl", 500, 0.282, None, [TWICE]),
    _written("rows to SQLite", ".sqlite", 5, 0.0272, "executemany", [Target(0.7, "bound")], 0.3),
    _written("rows to SQLite", ".sqlite", 500, 0.0513, "executemany", [Target(0.7, "bound")], 0.3),
    _written("rows to Parquet", ".parquet", 5, 0.0104, "arrow.table", [Target(150_000)]),
    _written("rows to Parquet", ".parquet", 500, 0.0673, "arrow.table", [Target(150_000)]),
]
LOADING = [
    Row("rows loaded from CSV", "load", ".csv, load", targets=[Target(200_000)], more=True),
    Row(
        "rows of CSV to pandas",
        "load",
        ".csv, to_pandas",
        targets=[Target(300_000)],
        bound=".csv, pandas.read_csv",
        more=True,
    ),
    Row("rows of Parquet to pandas", "load", ".parquet, to_pandas", targets=[Target(1_000_000)], more=True),
]


def _cpu(framing: str, way: str, of_pymodbus: float) -> Row:
    case = f"{framing}, replies come {way}"
    peers = [_client(case, "pymodbus"), _client(case, "minimalmodbus")]
    return Row(
        f"CPU of a sweep, {framing}, {way}",
        "cost",
        f"{case}, servomex",
        [*peers, _reference(of_pymodbus, f"{case}, pymodbus")],
        AHEAD,
    )


def _sweep(line: str, reference: Peer) -> Row:
    case = f"{line}, back to back"
    return Row(
        f"sweep, {line} baud",
        "sweep",
        f"{case}, servomex",
        [_client(case, "pymodbus"), _client(case, "minimalmodbus"), reference],
        [Target(1.01, "bound")],
        near=0.01,
    )


def _last_byte(line: str) -> Row:
    case = f"{line}, last byte to return"
    peers = [_client(case, "pymodbus"), _client(case, "minimalmodbus")]
    return Row(
        f"last byte to return, {line} baud",
        "sweep",
        f"{case}, servomex",
        [*peers, _reference(0.121, f"{case}, pymodbus")],
        [Target(0.25)],
    )


def _bad_line(rates: str) -> list[Row]:
    case, wrong = f"{rates}, right sweeps", f"{rates}, wrong sweeps"
    peers = [_client(case, "pymodbus"), _client(case, "minimalmodbus")]
    others = [Peer(name, f"{wrong}, {name}") for name in ("pymodbus", "minimalmodbus")]
    return [
        Row(f"right sweeps, {rates}", "lossy", f"{case}, servomex", peers, AHEAD, more=True),
        Row(f"wrong sweeps, {rates}", "lossy", f"{wrong}, servomex", others, [Target(0)]),
    ]


MODBUS = [
    _cpu("RTU", "byte by byte", 3.08),
    _cpu("RTU", "at once", 1.53),
    _cpu("ASCII", "byte by byte", 2.13),
    _cpu("ASCII", "at once", 2.13),
    _last_byte("RTU 19200"),
    _sweep("RTU 19200", _reference(1.008, "RTU 19200, back to back, minimalmodbus")),
    _sweep("ASCII 19200", _reference(1.017, "ASCII 19200, back to back, minimalmodbus")),
    _sweep("RTU 2400", _reference(1.235, "RTU 2400, back to back, servomex")),
    *_bad_line("2 % lost, 1 % damaged"),
    *_bad_line("10 % lost, 5 % damaged"),
    *_bad_line("25 % lost, 10 % damaged"),
]
STARTING = [
    Row("opening, RTU named", "opening", "RTU named, identified", [_reference(0.13)], [Target(0.30)], near=0.1),
    Row("opening, AUTO", "opening", "AUTO, identified", [_reference(0.17)], [Target(0.35)], near=0.1),
    Row(
        "first usable name",
        "startup",
        "from servomex import open_device, more than bare",
        [
            Peer("pymodbus", "import pymodbus.client, more than bare"),
            Peer("minimalmodbus", "import minimalmodbus, more than bare"),
            _reference(1.185, "import pymodbus.client, more than bare"),
        ],
        [Target(55)],
        "import attrs, more than bare",
    ),
]
BROADCASTS = [
    Row(
        "parsing, steady",
        "parse",
        "5 channels, servomex",
        [_reference(1.43, "5 channels, split and build")],
        [Target(11)],
    ),
    Row(
        "parsing, all varied",
        "parse",
        "5 channels, all varied, servomex",
        [_reference(1.46, "5 channels, all varied, split and build")],
        [Target(14)],
    ),
]


def _recorded(rate: int, reference_ms: float) -> list[Row]:
    case = f"{rate} Hz, alone"
    return [
        Row(f"recorder late, p99, {rate} Hz", "recorder", f"{case}, p99", [_reference(reference_ms)], AHEAD),
        Row(f"recorder, lost, {rate} Hz", "recorder", f"{case}, lost moments", targets=[Target(0)]),
    ]


ROWS: list[Row] = [
    *FILES,
    *LOADING,
    *MODBUS,
    *STARTING,
    *BROADCASTS,
    *_recorded(50, 2.2),
    *_recorded(100, 3.6),
]
