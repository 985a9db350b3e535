"""Where so many files are open that pyserial can wait for no more, opening a port says so."""

import contextlib
import os
from collections.abc import Iterator

import pytest

import servomex
from servomex.errors import ServomexConnectionError
from servomex.simulator import PtyServer, TcpServer, VirtualAnalyzer, VirtualLine

resource = pytest.importorskip("resource")


@pytest.fixture
def many_files() -> Iterator[None]:
    """Open all files up to the number that ``select`` cannot take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("this user may not have so many files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    opened: list[int] = []
    try:
        while not opened or opened[-1] < 1030:
            opened.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("mode", ["modbus_rtu", "continuous"])
@pytest.mark.parametrize("kind", [PtyServer, TcpServer])
def test_opening_says_so(
    kind: type[PtyServer] | type[TcpServer], mode: str, request: pytest.FixtureRequest
) -> None:
    with contextlib.ExitStack() as stack:
        server = kind(VirtualLine(VirtualAnalyzer(mode=mode, period=0.1)))
        stack.enter_context(server)
        request.getfixturevalue("many_files")
        with pytest.raises(ServomexConnectionError, match="about 1,024 files or connections open"):
            servomex.open_device(server.port, protocol=mode, listen=1)


def test_a_port_that_was_opened_before_goes_on(request: pytest.FixtureRequest) -> None:
    line = VirtualLine(VirtualAnalyzer())
    with PtyServer(line) as server, servomex.open_device(server.port, protocol="modbus_rtu") as analyzer:
        request.getfixturevalue("many_files")
        assert analyzer.poll().ok
