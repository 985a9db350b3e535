"""A process that looks like one on Windows to this package and its tests, for computers that have none.

``python -m tox -e windows`` runs the suite like that. Python imports ``sitecustomize`` from this folder, so that
it holds for the programs that tests start as well. What is imported by ``servomex``, ``tests``, ``examples`` and
``python -c`` is as Windows has it; the standard library and other packages see the system as it is.

Simulated are

* modules and names that Windows lacks,
* signals, which interrupt no wait, and the events of the console,
* the clock, which moves every 15.6 ms,
* files, which cannot be replaced or removed while they are open, and whose text is cp1252 with CR LF,
* ``select``, which waits for sockets only, and the words of pyserial when a port cannot be opened,
* backslashes in the path of a test's folder.

Not simulated are drive letters, the serial ports of Windows, files that another process has open, the resolution
of waits, and ``time.sleep``, which Ctrl-C ends on Windows and here does not.
"""

import builtins
import ctypes
import errno
import functools
import importlib
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from simulated_files import ENCODING, encode_text, guard_files, is_ours  # type: ignore[import-not-found]

TICK_NS = 15_625_000
FOLDER = r"C:\Users\lab"
SIGBREAK = 21
"""Its number on Windows; on Linux that of a signal which nothing here uses."""
CTRL_BREAK_EVENT, CTRL_CLOSE_EVENT = 1, 2
CONSOLE_CLOSED = 58
"""Exit code of a process that the end of its console has ended, as far as here eight bits show it."""
CLOSE_S = 5.0
"""How long Windows waits for a process whose console is closed."""
SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, SIGBREAK}

MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
NAMES: dict[str, set[str]] = {
    "ctypes": set(),
    "os": set(
        """chown chroot confstr ctermid fchdir fchmod fchown fdatasync fork forkpty fpathconf fstatvfs getegid
        geteuid getgid getgrouplist getgroups getloadavg getpgid getpgrp getpriority getsid getuid killpg lchown
        lockf mkfifo mknod nice openpty pathconf pipe2 posix_fadvise posix_fallocate posix_spawn pread preadv
        pwrite pwritev readv register_at_fork sched_getaffinity sched_yield sendfile set_blocking setegid seteuid
        setgid setpgid setpriority setregid setsid setuid statvfs sync sysconf tcgetpgrp tcsetpgrp ttyname uname
        wait wait3 wait4 waitid writev O_ASYNC O_CLOEXEC O_DIRECT O_DIRECTORY O_DSYNC O_NDELAY O_NOATIME O_NOCTTY
        O_NOFOLLOW O_NONBLOCK O_PATH O_RSYNC O_SYNC O_TMPFILE WNOHANG""".split()
    ),
    "select": {"poll", "epoll", "devpoll", "kqueue"},
    "signal": set(
        """SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP SIGTSTP SIGTTIN
        SIGTTOU SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH alarm getitimer pause pthread_kill pthread_sigmask setitimer
        siginterrupt sigpending sigtimedwait sigwait sigwaitinfo ITIMER_REAL""".split()
    ),
    "socket": {"AF_UNIX", "MSG_DONTWAIT", "MSG_NOSIGNAL", "socketpair_unix"},
    "sys": {"abiflags", "getdlopenflags", "setdlopenflags"},
    "time": {
        *(name for name in dir(time) if name.startswith(("CLOCK_", "clock_", "pthread_"))),
        "tzset",
    },
}


class Facade(types.ModuleType):
    """A module as Windows has it. What is set in it is set in the real one, or in what stands for it here.

    Args:
        real: The module.
        hidden: Names that it lacks.
        instead: What other names lead to.
    """

    def __init__(self, real: types.ModuleType, hidden: Iterable[str], instead: Mapping[str, object]) -> None:
        super().__init__(real.__name__, real.__doc__)
        object.__getattribute__(self, "__dict__").update(
            _real=real, _hidden=frozenset(hidden), _instead=dict(instead)
        )

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__(self, "__dict__")
        if name == "__dict__":
            shown = {key: value for key, value in vars(own["_real"]).items() if key not in own["_hidden"]}
            return shown | own["_instead"]
        if name in own["_hidden"]:
            raise AttributeError(f"{own['_real'].__name__} has no {name} on Windows", name=name)
        if name in own["_instead"]:
            return own["_instead"][name]
        return getattr(own["_real"], name)

    def __setattr__(self, name: str, value: object) -> None:
        own = object.__getattribute__(self, "__dict__")
        if name in own["_instead"]:
            own["_instead"][name] = value
        else:
            setattr(own["_real"], name, value)

    def __delattr__(self, name: str) -> None:
        delattr(object.__getattribute__(self, "__dict__")["_real"], name)

    def __dir__(self) -> list[str]:
        return [*vars(self)]


_facades: dict[str, Facade] = {}


def install() -> None:
    """Make this process look so, from now on."""
    _name_folders()
    _take_signals()
    _slow_clock()
    guard_files()
    _guard_processes()
    encode_text()
    _facades.update(
        {
            module.__name__: Facade(module, NAMES[module.__name__], instead)
            for module, instead in (
                (ctypes, {"WINFUNCTYPE": ctypes.CFUNCTYPE, "WinDLL": Kernel}),
                (os, {"name": "nt", "linesep": "\r\n", "O_BINARY": 0, "kill": _kill}),
                (select, {"select": _select}),
                (
                    signal,
                    {
                        "SIGBREAK": SIGBREAK,
                        "CTRL_C_EVENT": 0,
                        "CTRL_BREAK_EVENT": CTRL_BREAK_EVENT,
                        "raise_signal": _raise_signal,
                        "signal": _set_handler,
                    },
                ),
                (sys, {"platform": "win32"}),
                (time, {}),
            )
        }
    )
    builtins.__import__ = _importing(builtins.__import__)
    importlib.import_module = _finding(importlib.import_module)


def _finding(real: Callable[..., Any]) -> Callable[..., Any]:
    """As :func:`_importing`, for ``pytest.importorskip``."""

    def import_module(name: str, package: str | None = None) -> Any:
        if name in MODULES and sys._getframe(1).f_globals["__name__"] == "_pytest.outcomes":
            raise ModuleNotFoundError(f"No module named {name!r} on Windows", name=name)
        return real(name, package)

    return import_module


def _importing(real: Callable[..., Any]) -> Callable[..., Any]:
    def importing(
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Iterable[str] | None = (),
        level: int = 0,
    ) -> Any:
        if level == 0 and is_ours(globals):
            if name in MODULES:
                raise ModuleNotFoundError(f"No module named {name!r} on Windows", name=name)
            if name in NAMES:
                module = real(name, None, None, fromlist or (), 0)  # and a module within it
                return _facades.setdefault(name, Facade(module, NAMES[name], {}))
            if name == "serial":
                _name_port_errors(real(name))
            if name == "os.path" and not fromlist:
                real(name)
                return _facades["os"]
        return real(name, globals, locals, fromlist or (), level)

    return importing


def _name_folders() -> None:
    r"""Let each path of a test have backslashes in it: in a regular expression, ``\U`` is an error."""
    if FOLDER not in tempfile.gettempdir():
        folder = Path(tempfile.gettempdir()) / FOLDER
        folder.mkdir(exist_ok=True)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def _take_signals() -> None:
    """Let a thread of its own take all signals, as on Windows: no wait of the main thread is interrupted.

    Python's handlers run in the main thread nevertheless, as soon as it comes to its next step.
    """
    ready = threading.Event()

    def take() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        ready.set()
        while True:
            _sleep(3600)

    try:
        threading.Thread(target=take, name="simulated-console", daemon=True).start()
    except RuntimeError:  # a subinterpreter, which has no signals
        return
    ready.wait()
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGSEGV, signal.SIGABRT})


def press(number: int) -> None:
    """Send this process what the keys of its console send: SIGINT for Ctrl-C, SIGBREAK for Ctrl-Break."""
    _kill_process(os.getpid(), number)


_sleep = time.sleep
_kill_process = os.kill
_signal = signal.signal


def _raise_signal(number: int) -> None:
    """Raise a signal in this thread; its handler is called at once."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    try:
        signal.raise_signal(number)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})


def _set_handler(number: int, handler: Any) -> Any:
    if number not in SIGNALS:
        raise ValueError("invalid signal value")
    return _signal(number, handler)


def _kill(pid: int, number: int) -> None:
    """End a process without asking it; Ctrl-Break is all that Windows can send."""
    if number == CTRL_BREAK_EVENT:
        _kill_process(pid, SIGBREAK)
    elif number == 0:
        raise OSError(errno.EINVAL, "Ctrl-C cannot be sent to one process")
    else:
        _kill_process(pid, signal.SIGKILL)


class Kernel:
    """``kernel32.dll``, as far as it handles the events of a console.

    Args:
        name: That of the library.
    """

    handlers: list[Callable[[int], int]] = []  # noqa: RUF012 (there is one console)

    def __init__(self, name: str) -> None:
        assert name == "kernel32"

    class SetConsoleCtrlHandler:
        """Adds a handler."""

        argtypes: tuple[object, ...] = ()
        restype: object = None

        def __new__(cls, handler: Callable[[int], int], add: bool) -> Any:
            """Keep it."""
            assert add
            Kernel.handlers.append(handler)
            return 1


def close_console() -> None:
    """Close the console: the process is ended when a handler has returned, and after 5 s in any case."""

    def close() -> None:
        any(handler(CTRL_CLOSE_EVENT) for handler in reversed(Kernel.handlers))
        os._exit(CONSOLE_CLOSED)

    def end() -> None:
        _sleep(CLOSE_S)
        os._exit(CONSOLE_CLOSED)

    for act in (close, end):
        threading.Thread(target=act, daemon=True).start()


def _name_port_errors(module: Any) -> None:
    """Let pyserial say why a port cannot be opened as it does on Windows: only in its text."""
    kind = module.Serial
    if getattr(kind, "_names_errors", False):
        return
    begin = kind.open

    def open_(port: Any) -> None:
        try:
            begin(port)
        except module.SerialException as error:
            known = {
                errno.ENOENT: FileNotFoundError(errno.ENOENT, "The system cannot find the file specified."),
                errno.EBUSY: PermissionError(errno.EACCES, "Access is denied."),
                errno.EAGAIN: PermissionError(errno.EACCES, "Access is denied."),
            }
            cause = known.get(error.errno or 0) or OSError(error.errno, os.strerror(error.errno or 0))
            raise module.SerialException(f"could not open port {port.portstr!r}: {cause!r}") from None

    kind.open, kind._names_errors = open_, True


def _guard_processes() -> None:
    begin: Any = subprocess.Popen.__init__

    def init(self: Any, *args: Any, **options: Any) -> None:
        if options.get("preexec_fn") is not None:
            raise ValueError("preexec_fn is not supported on Windows platforms")
        if (options.get("text") or options.get("universal_newlines")) and not options.get("encoding"):
            options["encoding"] = ENCODING
        begin(self, *args, **options)

    def send_signal(self: Any, number: int) -> None:
        self.poll()
        if self.returncode is not None:
            return
        if number not in (signal.SIGTERM, signal.SIGKILL, CTRL_BREAK_EVENT):
            raise ValueError(f"Unsupported signal: {number}")
        _kill(self.pid, number)

    popen: Any = subprocess.Popen
    popen.__init__, popen.send_signal = init, send_signal


def _slow_clock() -> None:
    for name in ("monotonic", "time"):
        read = getattr(time, f"{name}_ns")
        setattr(time, f"{name}_ns", functools.partial(_ticks, read))  # a function would become a method
        setattr(time, name, functools.partial(_seconds, read))


def _ticks(read: Callable[[], int]) -> int:
    return read() // TICK_NS * TICK_NS


def _seconds(read: Callable[[], int]) -> float:
    return _ticks(read) / 1e9


def _select(*lists: Any) -> Any:
    descriptors = [item if isinstance(item, int) else item.fileno() for some in lists[:3] for item in some]
    if not descriptors:
        raise OSError(10022, "An invalid argument was supplied")
    for descriptor in descriptors:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise OSError(10038, "An operation was attempted on something that is not a socket")
    return select.select(*lists)
