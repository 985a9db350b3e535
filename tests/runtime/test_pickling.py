"""What is open belongs to its process: it cannot be sent to another one."""

import os
import pickle
from pathlib import Path

import pytest

import servomex
from servomex.errors import ServomexConfigurationError
from servomex.simulator import VirtualAnalyzer, VirtualLine

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:.*use of fork.. may lead to deadlocks:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning"),
]


def test_nothing_that_is_open_can_be_pickled(tmp_path: Path) -> None:
    line = VirtualLine(VirtualAnalyzer())
    with (
        servomex.open_device(line.url, protocol="modbus_rtu") as analyzer,
        servomex.open_sink(tmp_path / "run.csv") as sink,
        servomex.ServomexManager() as manager,
        servomex.Recorder(analyzer, ["memory://"], rate_hz=1) as recorder,
    ):
        for item in (analyzer, analyzer.link, sink, manager, recorder, recorder.recording):
            with pytest.raises(ServomexConfigurationError, match=r"cannot be handed to another process"):
                pickle.dumps(item)
        assert pickle.loads(pickle.dumps(analyzer.poll())).ok
