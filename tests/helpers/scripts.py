"""Ports that follow a script, and analysers opened on them."""

import functools

from servomex import (
    open_device,
)
from servomex.analyzer.analyzer import Analyzer
from servomex.testing import ScriptedPort

Fence = functools.partial(ScriptedPort, loopbacks=True)
"""A port that answers loopbacks, whose number is not known beforehand, and follows the script otherwise."""


def opened(port: ScriptedPort, protocol: str = "modbus_rtu", **options: object) -> Analyzer:
    return open_device(port, protocol=protocol, gap=0.0, identify=False, **options)  # type: ignore[arg-type]
