"""A web page that shows live readings, and its server. It needs the extra ``web``.

Nothing here writes to an analyser: the server knows only what was read.
"""

from typing import TYPE_CHECKING

from servomex.runtime.lazy import hand_on

if TYPE_CHECKING:
    from servomex.views.web.gate import Gate as Gate
    from servomex.views.web.live import Live as Live
    from servomex.views.web.server import WebServer as WebServer
else:
    __getattr__, __dir__ = hand_on(__name__, {"gate": "Gate", "live": "Live", "server": "WebServer"})
