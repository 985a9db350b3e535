"""A virtual analyser, for trying the driver and testing programs without hardware.

``sim://4100`` opens one wherever a port is expected, see :mod:`servomex.simulator.urls`; ``servomex simulate``
serves one on a pseudo-terminal or a TCP port; in a program, build a :class:`VirtualAnalyzer`, put it on a
:class:`VirtualLine` and open the line's ``url``.
"""

from typing import TYPE_CHECKING

from servomex.runtime.lazy import hand_on

if TYPE_CHECKING:
    from servomex.simulator.channels import VirtualChannel as VirtualChannel
    from servomex.simulator.channels import constant as constant
    from servomex.simulator.channels import noise as noise
    from servomex.simulator.channels import ramp as ramp
    from servomex.simulator.channels import sine as sine
    from servomex.simulator.device import IllegalAddressError as IllegalAddressError
    from servomex.simulator.device import VirtualAnalyzer as VirtualAnalyzer
    from servomex.simulator.faults import Faults as Faults
    from servomex.simulator.foreign import ForeignInstrument as ForeignInstrument
    from servomex.simulator.line import VirtualLine as VirtualLine
    from servomex.simulator.playback import load_recording as load_recording
    from servomex.simulator.replay import ReplayLine as ReplayLine
    from servomex.simulator.serve import PtyServer as PtyServer
    from servomex.simulator.serve import TcpServer as TcpServer
else:
    __getattr__, __dir__ = hand_on(
        __name__,
        {
            "channels": "VirtualChannel constant noise ramp sine",
            "device": "IllegalAddressError VirtualAnalyzer",
            "faults": "Faults",
            "foreign": "ForeignInstrument",
            "line": "VirtualLine",
            "playback": "load_recording",
            "replay": "ReplayLine",
            "serve": "PtyServer TcpServer",
        },
    )
