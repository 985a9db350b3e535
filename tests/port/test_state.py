"""What a protocol keeps for a port: one object for all who share it, which forgets what a connection has shown."""

from servomex.modbus.line import ModbusLine
from servomex.port.link import SerialLink
from servomex.simulator import VirtualLine
from servomex.simulator.device import VirtualAnalyzer


def test_all_who_share_a_port_have_the_same_state_of_a_protocol() -> None:
    link, other = SerialLink("sim://4100"), SerialLink("sim://4100")
    assert link.state(ModbusLine) is link.state(ModbusLine)
    assert link.state(ModbusLine) is not other.state(ModbusLine)


def test_a_port_that_is_opened_again_has_no_echo_and_no_proof() -> None:
    wire = VirtualLine(VirtualAnalyzer())
    with SerialLink(wire.url) as link:
        line = link.state(ModbusLine)
        line.echo = line.others is not None
        line.proven.add(1)
        line.others.asked.add(1)
        link.close()
        link.open()
        assert line.echo is None
        assert not line.proven
        assert line.others.asked == {1}
