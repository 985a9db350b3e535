"""The fixtures for other people's suites, each run of them in a suite and a process of its own."""

import re
import textwrap
from collections.abc import Iterable

import pytest

from tests.helpers.pages import blocks_of
from tests.helpers.paths import ROOT

pytest_plugins = ["pytester"]

PLUGIN = "servomex.testing.plugin"
PAGE = ROOT / "docs" / "howto" / "testing.rst"
REFERENCE = ROOT / "docs" / "reference" / "api" / "testing.rst"
FIXTURES = [
    "each_mode", "virtual_analyser", "virtual_line", "virtual_line_factory", "opened_analyzer",
    "scripted_port_factory", "quick_reconnect",
]  # fmt: skip


class Suite:
    """A suite of a user: what is in it, and what comes of it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester

    def run(self, source: str, *options: str, loaded: bool = True) -> pytest.RunResult:
        return self.run_files([source], *options, loaded=loaded)

    def run_files(self, sources: Iterable[str], *options: str, loaded: bool = True) -> pytest.RunResult:
        """Run several files at once, since a start takes longer than the tests in it."""
        self._pytester.makepyfile(
            **{f"test_of_a_user_{number}": textwrap.dedent(source) for number, source in enumerate(sources)}
        )
        arguments = ["-p", PLUGIN] if loaded else []
        return self._pytester.runpytest_subprocess(
            *arguments, "-p", "no:cacheprovider", "-W", "error", "--strict-markers", "-v", *options, timeout=150
        )


@pytest.fixture
def suite(pytester: pytest.Pytester) -> Suite:
    return Suite(pytester)


def text_of(result: pytest.RunResult) -> str:
    return result.stdout.str() + result.stderr.str()


def test_an_opened_analyser_in_the_mode_of_the_marker(suite: Suite) -> None:
    source = """
        import pytest
        from servomex.simulator import VirtualChannel, constant

        oxygen = VirtualChannel("I1", "Oxygen", "%", constant(17.5))
        pytestmark = pytest.mark.virtual_analyser(mode=MODE, address=9, channels=[oxygen])

        def test_it(opened_analyzer, virtual_analyser):
            assert opened_analyzer.protocol == MODE == virtual_analyser.mode
            assert virtual_analyser.address == 9
            assert opened_analyzer.link.gap_s == 0
            assert opened_analyzer.poll().channels == ("I1", "E1", "E2")
            assert opened_analyzer.poll()["I1"].value == 17.5
            virtual_analyser["I1"].signal = constant(3.0)
            assert opened_analyzer.poll(wait_fresh=True)["I1"].value == 3.0

        def test_the_next_one_has_channels_of_its_own(opened_analyzer):
            assert opened_analyzer.poll()["I1"].value == 17.5
    """
    modes = ("modbus_rtu", "modbus_ascii", "continuous")
    result = suite.run_files(source.replace("MODE", repr(mode)) for mode in modes)
    result.assert_outcomes(passed=6)


def test_each_mode_runs_a_test_three_times_as_a_fixture_and_in_a_marker(suite: Suite) -> None:
    result = suite.run("""
        import pytest, servomex

        def test_it(each_mode, opened_analyzer):
            assert opened_analyzer.protocol == each_mode
            assert opened_analyzer.poll()["I1"].value == 20.376

        @pytest.mark.usefixtures("each_mode")
        def test_it_by_a_marker(virtual_line):
            with servomex.open_device(virtual_line.url, gap=0) as analyzer:
                assert analyzer.poll()["I1"].value == 20.376
    """)
    result.assert_outcomes(passed=6)
    for mode in ("continuous", "modbus_rtu", "modbus_ascii"):
        assert f"test_it[{mode}] PASSED" in text_of(result)
        assert f"test_it_by_a_marker[{mode}] PASSED" in text_of(result)


def test_faults_of_a_marker_are_those_of_one_test(suite: Suite) -> None:
    result = suite.run("""
        import pytest
        from servomex.simulator import Faults

        faults = Faults(late=0.01)
        pytestmark = pytest.mark.virtual_analyser(faults=faults)

        @pytest.mark.parametrize("turn", [1, 2])
        def test_it(virtual_analyser, turn):
            assert virtual_analyser.faults.late == 0.01
            assert not virtual_analyser.faults.silent
            virtual_analyser.faults.silent = True
    """)
    result.assert_outcomes(passed=2)


def test_faults_and_a_pulled_cable_reach_the_program(suite: Suite) -> None:
    result = suite.run("""
        import time
        import pytest, servomex

        def test_silence(opened_analyzer, virtual_analyser):
            virtual_analyser.faults.silent = True
            with pytest.raises(servomex.ServomexTimeoutError):
                opened_analyzer.poll(timeout=0.1)

        def test_the_cable(opened_analyzer, virtual_line, quick_reconnect):
            virtual_line.unplug()
            with pytest.raises(servomex.ServomexConnectionError):
                opened_analyzer.poll()
            virtual_line.plug()
            time.sleep(0.1)
            assert opened_analyzer.poll()["I1"].value == 20.376

        def test_the_pauses_are_the_real_ones_again():
            pauses = servomex.SerialLink.pauses
            assert (pauses.first_s, pauses.longest_s) == (0.5, 30.0)
    """)
    result.assert_outcomes(passed=3)


def test_several_analysers_on_a_line(suite: Suite) -> None:
    result = suite.run("""
        import servomex
        from servomex.simulator import VirtualAnalyzer

        def test_it(virtual_line_factory):
            line = virtual_line_factory(VirtualAnalyzer(address=1), VirtualAnalyzer(address=2), baudrate=9600)
            other = virtual_line_factory()
            assert (line.baudrate, other.baudrate) == (9600, 19200)
            settings = servomex.SerialSettings(baudrate=9600)
            with servomex.ServomexManager() as manager:
                for address in (1, 2):
                    manager.add(
                        f"a{address}", line.url, protocol="modbus_rtu", address=address, serial_settings=settings
                    )
                assert [result.value["I1"].value for result in manager.poll().values()] == [20.376, 20.376]
    """)
    result.assert_outcomes(passed=1)


def test_what_was_left_open_is_an_error_of_its_test_and_of_no_other(suite: Suite) -> None:
    result = suite.run("""
        import pytest, servomex

        kept = []

        def test_a_port(virtual_line):
            kept.append(servomex.open_device(virtual_line.url, protocol="modbus_rtu"))

        @pytest.mark.virtual_analyser(mode="continuous")
        def test_a_thread(virtual_line):
            kept.append(servomex.open_continuous(virtual_line.url))

        def test_nothing(opened_analyzer):
            pass

        def test_what_is_closed(virtual_line):
            servomex.open_device(virtual_line.url, protocol="modbus_rtu").close()
            virtual_line.unplug()

        def test_the_end():
            for analyzer in kept:
                analyzer.close()
    """)
    result.assert_outcomes(passed=5, errors=2)
    assert re.search(r"left open: sim://line-\d+ is open\. Close what was opened", text_of(result))
    assert re.search(
        r"left open: sim://line-(\d+) is open, the thread 'servomex-continuous sim://line-\1' runs",
        text_of(result),
    )


def test_a_scripted_port_is_checked_when_its_test_ends(suite: Suite) -> None:
    result = suite.run("""
        def test_a_script_that_happens(scripted_port_factory):
            port = scripted_port_factory([(b"one", b"1")])
            port.write(b"one")
            assert port.read(1) == b"1"

        def test_a_script_that_does_not_happen(scripted_port_factory):
            scripted_port_factory([(b"one", b"1")], loopbacks=True)

        def test_bytes_that_are_never_read(scripted_port_factory):
            scripted_port_factory().feed(b"noise")
    """)
    result.assert_outcomes(passed=3, errors=2)
    assert "1 requests of the script were never sent" in text_of(result)
    assert "b'noise' was never read" in text_of(result)


WRONG_MARKERS = {
    'mode="continuous"': "each_mode chooses the mode",
    "[]": "takes its arguments by name",
    "colour=3": "unexpected keyword argument 'colour'",
    "address=300": "address",
}


def test_a_wrong_marker_is_an_error_of_its_test(suite: Suite) -> None:
    tests = [
        f"""
        @pytest.mark.virtual_analyser({marker})
        def test_{number}(each_mode, virtual_analyser):
            pass
        """
        for number, marker in enumerate(WRONG_MARKERS)
    ]
    result = suite.run("        import pytest\n" + "".join(tests))
    result.assert_outcomes(errors=3 * len(WRONG_MARKERS))
    reports = re.split(r"_ ERROR at setup of test_(\d)\[\w+\] _", text_of(result))
    found = list(zip(map(int, reports[1::2]), reports[2::2], strict=True))
    assert len(found) == 3 * len(WRONG_MARKERS)
    for number, report in found:
        errors = "\n".join(re.findall(r"^E .*", report, re.MULTILINE))
        assert list(WRONG_MARKERS.values())[number] in errors


def test_a_conftest_loads_it_as_well(suite: Suite, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(f"pytest_plugins = [{PLUGIN!r}]")
    suite.run("def test_it(virtual_line): assert virtual_line.plugged", loaded=False).assert_outcomes(passed=1)


def test_it_is_not_there_unless_it_is_loaded(suite: Suite) -> None:
    result = suite.run(
        """
        import sys

        def test_nothing_is_imported():
            assert not [name for name in sys.modules if name.startswith("servomex")]

        def test_it(virtual_line): pass
        """,
        loaded=False,
    )
    result.assert_outcomes(passed=1, errors=1)
    assert "fixture 'virtual_line' not found" in text_of(result)


def test_every_fixture_and_the_marker_have_their_words(suite: Suite) -> None:
    shown = suite.run("", "--fixtures").stdout.str()
    ours = shown.partition(f"fixtures defined from {PLUGIN} -")[2].partition("\n---")[0]
    found = re.findall(r"^(\w+)(?: -- .*)\n    \S", ours, re.MULTILINE)
    assert sorted(found) == sorted(FIXTURES)
    assert "no docstring available" not in ours
    assert "virtual_analyser(channels, mode," in suite.run("", "--markers").stdout.str()
    rows = re.findall(r"^    \* - ``(\w+)``$", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(FIXTURES)


def test_the_tests_that_the_manual_shows_pass(suite: Suite) -> None:
    shown = [block.text for block in blocks_of(PAGE) if block.kind == "python" and "def test_" in block.text]
    assert len(shown) >= 3
    result = suite.run_files(shown)
    assert set(result.parseoutcomes()) == {"passed"}, text_of(result)
    for number in range(len(shown)):
        assert f"test_of_a_user_{number}.py::" in text_of(result)
