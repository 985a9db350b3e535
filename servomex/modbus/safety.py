"""The safety tier of each operation, and the gate in front of those that change the state of an analyser."""

from servomex.enums import SafetyTier
from servomex.errors import Argument, ErrorContext, ServomexConfirmationRequiredError
from servomex.errors.mappings import FrozenMapping

_READONLY = (
    # of Analyzer
    "analyser_status availability calibration_status check_process fresh_for_s identify loopback poll "
    "poll_samples read_all read_channel snapshot status stream subscribe close "
    # of ServomexManager, where execute_each has the tier of what it carries out
    "add get remove execute_each "
    # of ModbusClient
    "look_at_all_channels read_analyser read_coil read_coils read_frame read_status recognise "
    # functions
    "open_device open_continuous discover_port find_devices record pipe"
).split()
_STATEFUL = "calibrate start_calibration stop_calibration write_coil".split()

TIERS: FrozenMapping[SafetyTier] = FrozenMapping(
    dict.fromkeys(_READONLY, SafetyTier.READONLY) | dict.fromkeys(_STATEFUL, SafetyTier.STATEFUL)
)
"""The tier of each operation by its name: the methods of :class:`Analyzer`, :class:`ServomexManager` and
:class:`ModbusClient`, and the functions that reach an analyser. Only these are offered to others."""


def check_confirmed(operation: str, confirm: bool, why: str, context: ErrorContext) -> None:
    """Refuse an operation that changes the state of an analyser and was not confirmed.

    Args:
        operation: One of :data:`TIERS`.
        confirm: The caller's argument.
        why: What it does.
        context: Where.

    Raises:
        ServomexConfirmationRequiredError: It is stateful, and ``confirm`` is not ``True``.
    """
    if TIERS[operation] is SafetyTier.STATEFUL and confirm is not True:
        confirmed = Argument("confirm", True)
        raise ServomexConfirmationRequiredError(
            why, context, cure=f"Pass {confirmed} to do it", argument=confirmed
        )
