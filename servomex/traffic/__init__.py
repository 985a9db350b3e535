"""Traffic on a line, divided into messages and noise, and described in words."""

from typing import TYPE_CHECKING

from servomex.runtime.lazy import hand_on

if TYPE_CHECKING:
    from servomex.traffic.decoder import Message as Message
    from servomex.traffic.decoder import TrafficDecoder as TrafficDecoder
else:
    __getattr__, __dir__ = hand_on(__name__, {"decoder": "Message TrafficDecoder"})
