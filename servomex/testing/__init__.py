"""Help for testing programs that use this package: ports in memory, and loaders of captures and scripts.

A virtual analyser for tests is in :mod:`servomex.simulator`; fixtures of pytest are in
:mod:`servomex.testing.plugin`.
"""

from servomex.testing.fake import FakeTransport
from servomex.testing.files import load_capture, load_script
from servomex.testing.scripted import ScriptedPort

__all__ = ["FakeTransport", "ScriptedPort", "load_capture", "load_script"]
