"""A PostgreSQL server of the tests' own: started in a second, stopped in several ways, gone afterwards."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psycopg

from tests.servers.processes import dying_with_this, ended, folder_for, free_port, missing, run, user_of

USER = "postgres"
"""The user of the system who runs it, and its superuser; Debian's package creates the former."""
PASSWORD = "correct horse/battery?staple@100%"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "lc_messages": "C",
    "max_connections": "30",
    "shared_buffers": "16MB",
    "timezone": "America/New_York",
    "datestyle": "SQL, DMY",
}
"""It forgets nothing when it is killed, only when the computer is; its zone and its dates are not ours."""


def program(name: str) -> str:
    """Return the path of a program of the server, newest version first; Debian has them in no PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name))
    found = shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)]))
    if found is None:
        missing(f"there is no PostgreSQL server here ({name}); on Debian: apt install postgresql")
    return found


class PostgresServer:
    """A server on a TCP port of this computer and on a socket in its folder.

    Over the socket everyone may connect as anyone; over TCP with a password only.
    """

    def __init__(self) -> None:
        postgres, initdb = program("postgres"), program("initdb")
        user = user_of(USER)
        self.folder = folder_for(USER)
        self.port = free_port()
        self._data = self.folder / "data"
        self._command = [
            *user,
            *dying_with_this(),
            postgres,
            "-D",
            str(self._data),
            "-k",
            str(self.folder),
            "-p",
            str(self.port),
        ]
        for name, value in _SETTINGS.items():
            self._command += ["-c", f"{name}={value}"]
        self._process: subprocess.Popen[bytes] | None = None
        options = [
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ]
        try:
            run([*user, initdb, "-D", str(self._data), "-U", USER, *options], self.folder)
            self.start()
            self.execute(f"ALTER ROLE {USER} PASSWORD '{PASSWORD}'")
        except BaseException:
            self.remove()
            raise

    @property
    def log(self) -> str:
        """What it wrote."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def url(self, database: str, user: str = USER, **parameters: str) -> str:
        """Return the URL of a database, over the socket."""
        query = "".join(f"&{name}={value}" for name, value in parameters.items())
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}{query}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, self.log
                assert time.monotonic() < deadline, self.log
                time.sleep(0.05)
            else:
                return

    def stop(self, how: str = "fast") -> None:
        """Stop it: ``fast`` ends the sessions properly, ``immediate`` is as a crash."""
        if self._process is not None:
            ended(self._process, signal.SIGINT if how == "fast" else signal.SIGQUIT)
            self._process = None

    def hang(self) -> None:
        """Stop all of its processes, so that it is there and does not answer."""
        self._signal_all(signal.SIGSTOP)

    def wake(self) -> None:
        """Let them go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, sign: signal.Signals) -> None:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text(encoding="ascii")
        for number in [self._process.pid, *map(int, children.split())]:
            os.kill(number, sign)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement as the superuser, and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def remove(self) -> None:
        """Stop it, and remove all that it has."""
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
