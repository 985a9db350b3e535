"""Databases of the tests' own that take lines: InfluxDB 1 and, where there is one, VictoriaMetrics."""

import base64
import contextlib
import json
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from tests.servers.processes import dying_with_this, ended, folder_for, free_port, missing, user_of

USER = "influxdb"
"""The user of the system who runs it where this one is root; Debian's package creates it."""
PASSWORD = "correct horse/battery?staple@100%"
_CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
  auth-enabled = {auth}
"""


class InfluxServer:
    """A server of InfluxDB 1 on a TCP port of this computer.

    Args:
        auth: Whether only known users may write: the user ``admin`` with the password of the tests.
    """

    def __init__(self, *, auth: bool = False) -> None:
        program = shutil.which("influxd")
        if program is None:
            missing("there is no InfluxDB here; on Debian: apt install influxdb")
        user = user_of(USER)
        self._auth = auth
        self.folder = folder_for(USER)
        self.port = free_port()
        text = _CONFIG.format(folder=self.folder, port=self.port, rpc=free_port(), auth=str(auth).lower())
        (self.folder / "conf").write_text(text)
        (self.folder / "conf").chmod(0o644)
        self._command = [*user, *dying_with_this(), program, "-config", str(self.folder / "conf")]
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "plant") -> str:
        """Return the URL of a database."""
        return f"influx+http://127.0.0.1:{self.port}/write?db={database}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                return self._prepare()
            log_text = (self.folder / "log").read_text(errors="replace")
            assert self._process.poll() is None, log_text
            assert time.monotonic() < deadline, log_text
            time.sleep(0.05)

    def _prepare(self) -> None:
        if self._auth:
            quoted = PASSWORD.replace("'", "\\'")
            self.query(f"CREATE USER admin WITH PASSWORD '{quoted}' WITH ALL PRIVILEGES", who=False)
        self.query("CREATE DATABASE plant")

    def stop(self) -> None:
        """Stop it properly."""
        if self._process is not None:
            ended(self._process, signal.SIGTERM)
            self._process = None

    def query(self, text: str, database: str = "plant", *, who: bool = True) -> list[dict[str, Any]]:
        """Run a query, and return its series."""
        given = urllib.parse.urlencode({"db": database, "q": text, "epoch": "ns"}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/query", given)
        if self._auth and who:
            secret = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
            request.add_header("Authorization", f"Basic {secret}")
        with urllib.request.urlopen(request, timeout=10) as response:
            (result,) = json.load(response)["results"]
        assert "error" not in result, result
        found: list[dict[str, Any]] = result.get("series", [])
        return found

    def remove(self) -> None:
        """Stop it, and remove all that it has."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def victoria_metrics() -> Iterator[int]:
    """Run VictoriaMetrics where it is installed, and give its port; elsewhere the test is skipped."""
    import pytest

    program = shutil.which("victoria-metrics")
    if program is None:
        pytest.skip("there is no VictoriaMetrics here; on Debian: apt install victoria-metrics")
    port, folder = free_port(), folder_for("nobody")
    command = [*user_of("nobody"), *dying_with_this(), program, f"-httpListenAddr=127.0.0.1:{port}"]
    command += [f"-storageDataPath={folder}/data", "-memory.allowedBytes=100MB"]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5),
            ):
                break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port
    finally:
        ended(process, signal.SIGTERM)
        shutil.rmtree(folder, ignore_errors=True)
