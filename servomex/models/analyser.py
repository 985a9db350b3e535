"""The state of the analyser as a whole: its faults, its calibration groups and its clock."""

from datetime import datetime
from typing import Any

import attrs

from servomex.enums import (
    CalPhase,
    Quality,
)
from servomex.models.plain import time_text
from servomex.models.texts import Paint, unpainted

CAL_GROUPS = 4
"""How many calibration groups an analyser has."""


@attrs.frozen
class CalGroupState:
    """What one calibration group is doing.

    Attributes:
        group: 1 to 4.
        calibrating: On calibration gas (``C``) rather than on sample (``S``).
        cal_gas: Which calibration gas, 1 or 2.
    """

    group: int
    calibrating: bool
    cal_gas: int

    @property
    def phase(self) -> CalPhase:
        """The phase of the group: never ``SAMPLING``, which the state alone does not show."""
        if not self.calibrating:
            return CalPhase.IDLE
        return CalPhase.CAL_GAS_2 if self.cal_gas == 2 else CalPhase.CAL_GAS_1

    def __str__(self) -> str:
        return f"{'C' if self.calibrating else 'S'}{self.cal_gas}"


@attrs.frozen
class AnalyserStatus:
    """The state of the analyser as a whole.

    Attributes:
        fault: The analyser reports a fault.
        maintenance: Maintenance is required.
        cal_groups: The four calibration groups.
        clock: The analyser's own clock, in its local time without a zone; it may be wrong. ``None`` over Modbus,
            which does not carry it, and when it is not set.
    """

    fault: bool
    maintenance: bool
    cal_groups: tuple[CalGroupState, ...]
    clock: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object; the groups are the text of :attr:`cal_text`."""
        clock = self.clock and time_text(self.clock)
        return {
            "fault": self.fault,
            "maintenance": self.maintenance,
            "cal_groups": self.cal_text,
            "clock": clock,
        }

    @property
    def cal_text(self) -> str:
        """The calibration groups as the instrument writes them, such as ``S1S1C2S1``."""
        return "".join(map(str, self.cal_groups))

    @property
    def cal_words(self) -> tuple[str, ...]:
        """The groups on calibration gas, in words, such as ``("group 3 on calibration gas 2",)``."""
        return tuple(
            f"group {item.group} on calibration gas {item.cal_gas}" for item in self.cal_groups if item.calibrating
        )

    def __str__(self) -> str:
        """Return the raised states in words, and its clock: ``analyser ok, its clock 2020-10-06 02:54:12``."""
        return analyser_text(self)


def analyser_text(analyser: AnalyserStatus, paint: Paint = unpainted) -> str:
    """Format the state of the analyser, such as ``analyser ok, its clock 2020-10-06 02:54:12``."""
    flags = ((analyser.fault, "analyser fault"), (analyser.maintenance, "maintenance required"))
    words = [*(word for raised, word in flags if raised), *analyser.cal_words]
    state = ", ".join(words) or "analyser ok"
    if words:
        state = paint(state, Quality.BAD if analyser.fault else Quality.UNCERTAIN)
    return state + (f", its clock {analyser.clock}" if analyser.clock else "")
