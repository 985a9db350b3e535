"""What people look at: live readings on a terminal and on a page, and plots of recordings.

Views only look: nothing here writes to an analyser, or starts a calibration.
"""

from typing import TYPE_CHECKING

from servomex.runtime.lazy import hand_on

if TYPE_CHECKING:
    from servomex.views.board import AnalyserView as AnalyserView
    from servomex.views.board import Board as Board
    from servomex.views.board import ChannelView as ChannelView
    from servomex.views.board import Figures as Figures
    from servomex.views.events import Event as Event
    from servomex.views.gathering import Gathering as Gathering
    from servomex.views.looks import Level as Level
    from servomex.views.looks import State as State
else:
    __getattr__, __dir__ = hand_on(
        __name__,
        {
            "board": "AnalyserView Board ChannelView Figures",
            "events": "Event",
            "gathering": "Gathering",
            "looks": "Level State",
        },
    )
