"""Help for testing programs that use this package: ports in memory, and loaders of captures and scripts.

A virtual analyser for tests is in :mod:`servomex.simulator`; fixtures of pytest are in
:mod:`servomex.testing.plugin`.
"""

from typing import TYPE_CHECKING

from servomex.runtime.lazy import hand_on

if TYPE_CHECKING:
    from servomex.testing.fake import FakeTransport as FakeTransport
    from servomex.testing.files import load_capture as load_capture
    from servomex.testing.files import load_script as load_script
    from servomex.testing.scripted import ScriptedPort as ScriptedPort
else:
    __getattr__, __dir__ = hand_on(
        __name__,
        {
            "fake": "FakeTransport",
            "files": "load_capture load_script",
            "scripted": "ScriptedPort",
        },
    )
