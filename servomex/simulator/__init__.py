"""A virtual analyser, for trying the driver and testing one's own code without hardware.

``sim://4100`` opens one wherever a port is asked for, see :mod:`servomex.simulator.urls`; ``servomex simulate``
serves one on a pseudo-terminal or a TCP port; in a program, build a :class:`VirtualAnalyzer`, put it on a
:class:`VirtualLine` and open the line's ``url``.
"""

from servomex.simulator.channels import VirtualChannel, constant, noise, ramp, sine
from servomex.simulator.device import IllegalAddressError, VirtualAnalyzer
from servomex.simulator.faults import Faults
from servomex.simulator.foreign import ForeignInstrument
from servomex.simulator.line import VirtualLine
from servomex.simulator.playback import load_recording
from servomex.simulator.replay import ReplayLine
from servomex.simulator.serve import PtyServer, TcpServer

__all__ = [
    "Faults",
    "ForeignInstrument",
    "IllegalAddressError",
    "PtyServer",
    "ReplayLine",
    "TcpServer",
    "VirtualAnalyzer",
    "VirtualChannel",
    "VirtualLine",
    "constant",
    "load_recording",
    "noise",
    "ramp",
    "sine",
]
