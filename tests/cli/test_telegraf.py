"""``servomex stream --format influx --log-format telegraf``, as Telegraf's input execd runs it: over pipes."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

COMMAND = [sys.executable, "-m", "servomex", "stream", "--protocol", "modbus_rtu", "--gap", "0"]
TELEGRAF = ["--format", "influx", "--log-format", "telegraf"]


def test_readings_are_lines_on_stdout_and_what_happens_has_a_level_on_stderr() -> None:
    command = [*COMMAND, "sim://4100?fault=unplug:0.3", *TELEGRAF, "--rate", "5", "--count", "6", "-v"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.PIPE)
    lines, said = done.stdout.splitlines(), done.stderr.splitlines()
    assert lines
    assert all(re.fullmatch(r"servomex,device=\S+ value=.*quality_code=2i.* \d{19}", line) for line in lines), (
        lines
    )
    assert {line[:3] for line in said} == {"I! ", "W! "}, said
    assert [line for line in said if line.startswith("W! Failed: the port was lost")]
    assert re.fullmatch(r"I! \d readings?, \d failed, 0 late, 0 dropped", said[-1])


def test_what_ends_it_is_an_error() -> None:
    command = [*COMMAND, "/dev/nope", *TELEGRAF]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("E! Error: ")


def test_without_it_there_are_no_levels() -> None:
    command = [*COMMAND, "sim://4100", "--format", "influx", "--count", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "1 reading, 0 failed, 0 late, 0 dropped\n"


@pytest.mark.skipif(os.name == "nt", reason="Telegraf ends a program there by killing it")
def test_lines_come_at_once_and_the_signal_of_telegraf_ends_it() -> None:
    command = [*COMMAND, "sim://4100", *TELEGRAF, "--rate", "2", "--channels", "I1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        timer = threading.Timer(30, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            ages = [time.time() - int(process.stdout.readline().split()[-1]) / 1e9 for _ in range(3)]
            assert max(ages) < 1
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate()
        finally:
            timer.cancel()
            timer.join()
    assert process.returncode == 143
    assert said.splitlines()[-1].startswith("I! 3 readings")
