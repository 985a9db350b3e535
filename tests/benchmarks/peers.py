"""What others would use in the place of the driver: two Modbus clients from PyPI, and a parser of a few lines."""

import contextlib
import importlib
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import serial

from servomex import (
    AnalyserStatus,
    Analyzer,
    CalGroupState,
    ChannelId,
    ChannelStatus,
    Frame,
    ProtocolKind,
    Reading,
    SerialSettings,
    open_device,
)
from servomex.units import channel_name, unit_and_text
from tests.benchmarks.wire import ALL_AT_ONCE, GAP_S, READ_REGISTERS, Line


def split_and_build(line: bytes) -> Frame:
    """Parse a broadcast the straightforward way: split it, check the sum, and build the same models."""
    frame = line.rstrip(b"\r\n")
    body, total = frame[1:-5], frame[-5:-1]
    if sum(body) % 65536 != int(total, 16):
        raise ValueError("the checksum does not fit")
    date, moment, flags, groups, count, *fields = frame[1:].split(b";")
    received_at, received_ns = datetime.now(UTC), time.monotonic_ns()
    readings = []
    for place in range(0, 8 * int(count), 8):
        channel, name, value, unit, alarms, state, calibrating, warming = fields[place : place + 8]
        status = ChannelStatus(
            fault=state[:1] == b"F",
            maintenance=state[1:] == b"M",
            calibrating=calibrating == b"C",
            warming_up=warming == b"W",
            alarms=(alarms[:1] == b"1", alarms[1:2] == b"2", alarms[2:3] == b"3", alarms[3:] == b"4"),
        )
        known, text = unit_and_text(unit)
        readings.append(
            Reading(
                ChannelId(channel.decode()),
                channel_name(name),
                float(value),
                known,
                text,
                status,
                ProtocolKind.CONTINUOUS_ASCII,
                received_at,
                received_ns,
            )
        )
    analyser = AnalyserStatus(
        flags[:1] == b"F",
        flags[1:] == b"M",
        tuple(
            CalGroupState(
                number + 1, groups[2 * number : 2 * number + 1] == b"C", int(groups[2 * number + 1 :][:1])
            )
            for number in range(4)
        ),
        datetime.strptime(f"{date.decode()} {moment.decode()}", "%d-%m-%y %H:%M:%S"),  # noqa: DTZ007 (it has no zone)
    )
    return Frame(ProtocolKind.CONTINUOUS_ASCII, tuple(readings), analyser, received_at, received_ns, raw=frame)


PATIENT_S = 5.0
"""A timeout that ends no wait on a line without faults."""


class ServomexClient:
    """The driver itself. Its own timeout stays as it comes."""

    name = "servomex"

    def __init__(self, port: str, line: Line, timeout: float = PATIENT_S) -> None:
        settings = SerialSettings(baudrate=line.baudrate)
        self.analyzer: Analyzer = open_device(port, protocol=line.protocol, serial_settings=settings, gap=GAP_S)
        self.seen: object = None

    def sweep(self) -> float | None:
        """Read everything and return the value of the first channel."""
        frame = self.analyzer.poll()
        self.seen = [(item.channel, item.value, item.unit, item.status) for item in frame]
        return frame["I1"].value

    def close(self) -> None:
        """Give the port back."""
        self.analyzer.close()


class _PlainClient:
    """A client that reads all there is, each kind with one request, and keeps the gap by sleeping.

    It decodes the first channel only: words and bits are what these packages return.
    """

    def __init__(self, read: Callable[[int, int, int], Any]) -> None:
        self._read = read
        self._ended = time.monotonic()
        self.seen: object = None

    def sweep(self) -> float | None:
        """Read everything and return the value of the first channel."""
        found = [self._answer(*read) for read in ALL_AT_ONCE]
        self.seen = found
        return _float(found[0])

    def _answer(self, function: int, address: int, count: int) -> Any:
        time.sleep(max(0.0, self._ended + GAP_S - time.monotonic()))
        try:
            return self._read(function, address, count)
        finally:
            self._ended = time.monotonic()


class PymodbusClient(_PlainClient):
    """The serial client of pymodbus as it comes."""

    name = "pymodbus"

    def __init__(self, port: str, line: Line, timeout: float = PATIENT_S) -> None:
        from pymodbus.client import ModbusSerialClient
        from pymodbus.framer import FramerType

        framer = FramerType.ASCII if line.ascii else FramerType.RTU
        self._client = ModbusSerialClient(port, framer=framer, baudrate=line.baudrate, timeout=timeout)
        if not self._client.connect():
            raise RuntimeError(f"pymodbus cannot open {port}")
        super().__init__(self._ask)

    def _ask(self, function: int, address: int, count: int) -> Sequence[int] | Sequence[bool]:
        if function == READ_REGISTERS:
            return self._client.read_input_registers(address, count=count, device_id=1).registers
        return self._client.read_discrete_inputs(address, count=count, device_id=1).bits

    def close(self) -> None:
        """Give the port back."""
        self._client.close()  # type: ignore[no-untyped-call]


class MinimalmodbusClient(_PlainClient):
    """minimalmodbus as it comes."""

    name = "minimalmodbus"

    def __init__(self, port: str, line: Line, timeout: float = PATIENT_S) -> None:
        package = importlib.import_module("minimalmodbus")
        self._port = serial.serial_for_url(port, baudrate=line.baudrate, timeout=timeout, write_timeout=2)
        mode = package.MODE_ASCII if line.ascii else package.MODE_RTU
        self._instrument = package.Instrument(self._port, 1, mode=mode)
        super().__init__(self._ask)

    def _ask(self, function: int, address: int, count: int) -> Any:
        if function == READ_REGISTERS:
            return self._instrument.read_registers(address, count, functioncode=4)
        return self._instrument.read_bits(address, count, functioncode=2)

    def close(self) -> None:
        """Give the port back."""
        self._port.close()


Client = ServomexClient | PymodbusClient | MinimalmodbusClient
CLIENTS: tuple[type[Client], ...] = (ServomexClient, PymodbusClient, MinimalmodbusClient)
PACKAGES = {"pymodbus": "pymodbus.client", "minimalmodbus": "minimalmodbus"}


def missing_clients() -> list[str]:
    """Return the names of the clients whose packages are not installed."""
    missing = []
    for name, package in PACKAGES.items():
        try:
            importlib.import_module(package)
        except ImportError:
            missing.append(name)
    return missing


def available_clients() -> list[type[Client]]:
    """Return the clients that can be measured here, ours first."""
    missing = missing_clients()
    return [kind for kind in CLIENTS if kind.name not in missing]


@contextlib.contextmanager
def opened(
    kinds: Sequence[type[Client]], ports: Sequence[str], line: Line, timeout: float = PATIENT_S
) -> Iterator[list[Client]]:
    """Open a client of each kind on a port of its own, so that all can be measured in turn."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(contextlib.closing(kind(port, line, timeout)))
            for kind, port in zip(kinds, ports, strict=True)
        ]


def _float(words: Any) -> float:
    value: float = struct.unpack(">f", struct.pack(">2H", *words[:2]))[0]
    return round(value, 3)
