"""Which programs have a port open: they are named, in the error of a busy port as well, and nobody is made up."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from servomex.errors import ServomexConnectionError
from servomex.port import users as users_module
from servomex.port.link import SerialLink
from servomex.port.users import PortUser, users_of
from servomex.simulator import PtyServer, VirtualLine
from tests.helpers.rivals import LOCK, OPEN, needs_proc, program

SERVE = "import os, sys; _, end = os.openpty(); print(os.ttyname(end), flush=True); sys.stdin.read()"


@pytest.fixture
def port() -> Iterator[str]:
    with PtyServer(VirtualLine()) as server:
        yield server.port


@needs_proc
def test_every_program_that_has_a_port_open_is_named_by_any_name_of_the_port(port: str, tmp_path: Path) -> None:
    link = tmp_path / "analyser"
    link.symlink_to(port)
    with program(OPEN, port) as (first, _), program(OPEN, port) as (second, _):
        assert users_of(port) == users_of(str(link)) == sorted([first, second])
        assert str(first) == f"{first.program} (pid {first.pid})"
    assert users_of(port) == []


@needs_proc
def test_this_program_is_not_one_of_the_others() -> None:
    with program(SERVE) as (_, port), SerialLink(port):
        assert users_of(port) == []


@needs_proc
def test_a_file_is_no_port_whoever_has_it_open(tmp_path: Path) -> None:
    file = tmp_path / "dev" / "file"
    file.parent.mkdir()
    file.write_bytes(b"")
    with program(OPEN, str(file)):
        assert users_of(str(file)) == []


@needs_proc
def test_who_serves_a_pseudo_terminal_is_no_rival_for_it() -> None:
    with program(SERVE) as (server, port), program(OPEN, port) as (rival, _):
        assert server != rival
        assert users_of(port) == [rival]


@needs_proc
def test_a_busy_port_says_who_has_it(port: str) -> None:
    with program(LOCK, port) as (rival, _), pytest.raises(ServomexConnectionError) as caught:
        SerialLink(port).open()
    assert caught.value.text == f"{port} is in use by another program. Close {rival} first"


@pytest.mark.parametrize("port", ["/dev/ttyNowhere", __file__, "sim://4100", "COM3", "a\0b"])
def test_what_is_no_device_has_no_users(port: str) -> None:
    assert users_of(port) == []


@needs_proc
def test_no_user_is_known_where_the_system_shows_none(
    port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with program(OPEN, port):
        monkeypatch.setattr(users_module, "PROC", tmp_path / "nowhere")
        assert users_of(port) == []


@needs_proc
def test_programs_that_end_or_hide_while_they_are_looked_at_are_passed_over(
    port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pid in ("7", "8", "9", "self"):
        (tmp_path / pid / "fd").mkdir(parents=True)
    (tmp_path / "7" / "fd").rmdir()
    (tmp_path / "8" / "fd" / "3").write_bytes(b"closed since it was listed, and no link any more")
    (tmp_path / "8" / "fd" / "4").symlink_to("/dev/gone")
    (tmp_path / "9" / "fd" / "3").symlink_to("/dev/null")
    (tmp_path / "9" / "fd" / "4").symlink_to(port)
    monkeypatch.setattr(users_module, "PROC", tmp_path)
    assert users_of(port) == [PortUser(9, "a program")]


@needs_proc
def test_only_what_may_be_a_device_is_looked_at(
    port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file on a network drive that is gone would block whoever looks at it."""
    (tmp_path / "9" / "fd").mkdir(parents=True)
    (tmp_path / "9" / "fd" / "3").symlink_to("/mnt/far/away")
    monkeypatch.setattr(users_module, "PROC", tmp_path)
    looked_at: list[str] = []
    stat = os.stat

    def note(path: str) -> os.stat_result:
        looked_at.append(path)
        return stat(path)

    monkeypatch.setattr(os, "stat", note)
    assert users_of(port) == []
    assert looked_at == [port]
