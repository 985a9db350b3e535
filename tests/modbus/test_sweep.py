"""What a sweep puts together: each value in its own place, or an error."""

import pytest

from servomex.modbus.query import READ_INPUTS, READ_REGISTERS, Query
from servomex.modbus.replies import Reply
from servomex.modbus.sweep import Sweep
from servomex.registers import ALL_REGISTERS, ALL_STATES


@pytest.mark.parametrize("change", [-1, 1])
def test_a_reply_of_another_size_moves_no_value_to_another_channel(change: int) -> None:
    words = (0,) * (ALL_REGISTERS.count + change)
    bits = (False,) * (ALL_STATES.count + change)
    with pytest.raises(ValueError, match=f"{len(words)} values for"):
        Sweep().add(Query(READ_REGISTERS, ALL_REGISTERS), Reply(words, (), b"", b"", 0), 0)
    with pytest.raises(ValueError, match=f"{len(bits)} values for"):
        Sweep().add(Query(READ_INPUTS, ALL_STATES), Reply((), bits, b"", b"", 0), 0)
