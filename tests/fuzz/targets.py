"""All that is fuzzed: each target takes any bytes and raises when the driver does what it must not.

A ``ServomexError`` is the driver's right. Anything else that it raises is a crash; whatever it believes and the
oracle does not, or reads otherwise, is a wrong acceptance; whatever it refuses and the oracle takes is lost data.
"""

from collections.abc import Callable
from types import ModuleType

import attrs

from servomex import registers, telegram
from servomex.continuous import intake, sources
from servomex.continuous import reader as continuous
from servomex.modbus import client as modbus
from servomex.modbus import exchange, ledger, plan
from servomex.modbus import framing as link_client
from tests.fuzz.replies import exchange_seeds, run_exchange, run_sweep, script_seeds
from tests.fuzz.streams import FRAMES, STREAMS, run_reader, run_splitter, run_telegram


@attrs.frozen
class Target:
    """One way into the driver.

    Attributes:
        run: Takes the input, and tells whether the driver believed anything of it.
        seeds: Inputs to begin with.
        modules: The modules whose coverage leads the way.
    """

    run: Callable[[bytes], bool]
    seeds: tuple[bytes, ...]
    modules: tuple[ModuleType, ...]


TARGETS = {
    "telegram": Target(run_telegram, FRAMES, (telegram,)),
    "splitter": Target(run_splitter, FRAMES + STREAMS, (telegram,)),
    "reader": Target(run_reader, STREAMS, (telegram, continuous, intake, sources)),
    "exchange": Target(run_exchange, tuple(exchange_seeds()), (exchange, ledger, link_client)),
    "sweep": Target(
        run_sweep,
        sum(map(script_seeds, (2, 3, 6, 7)), ()),
        (exchange, ledger, link_client, modbus, plan, registers),
    ),
}
