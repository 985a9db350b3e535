"""What README.rst and the pages of docs show is run, and what comes is compared with what they show.

A port that exists only in the text is replaced by a virtual one, see :data:`PORTS`. Kinds of blocks:

* ``console``: the lines behind ``$`` are run by bash; what is shown below one is compared with what it writes.
  ``^C`` is sent where it is shown. A command that ends with an exit code other than 0 must show why.
* ``python``: run; it must not raise. ``pycon``: a session with its output, which is compared.
* ``text``: bytes, formulas and drawings; only in docs.

The blocks of the tutorial build on each other: ``test_docs.py`` runs them. Those that need a server are run in
``tests/servers``. The examples are included by reference, which ``test_docs.py`` looks at as well;
``test_examples.py`` and ``test_gui_examples.py`` run them.

Times, ages and durations differ from run to run: they are compared by their shape only. ``...`` stands for
anything.
"""

import doctest
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.pages import (
    DOCS,
    PAGES,
    TEST,
    TUTORIAL,
    WITH_SERVER,
    Block,
    Checker,
    Command,
    Script,
    blocks_of,
    needs_bash,
    replaced,
    stand_ins,
    workplace,
)

AT_ONCE = 8
KINDS = ("console", "python", "pycon")
DIRECTIVES = {
    "autoclass", "autodata", "autoexception", "autofunction", "automodule", "click", "code-block", "csv-table",
    "data", "figure", "image", "list-table", "literalinclude", "module", "toctree",
}  # fmt: skip
TIMED = re.compile(r" --(rate|every|watch|duration|seconds)\b")


BLOCKS = [block for page in PAGES if page not in (TUTORIAL, *WITH_SERVER) for block in blocks_of(page)]


def of_kind(kind: str) -> pytest.MarkDecorator:
    """Run a test for each block of a kind."""
    return pytest.mark.parametrize("block", [item for item in BLOCKS if item.kind == kind], ids=str)


@pytest.fixture(scope="module")
def shell(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Script], list[Command]]:
    """Run a script: with all others at once, or by itself where the tests are spread over processes already."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return lambda script: script.run(tmp_path_factory.mktemp("shell"))
    wanted = [getattr(item, "callspec", None) for item in request.session.items]
    scripts = [item.params["script"] for item in wanted if item and "script" in item.params]
    folders = [tmp_path_factory.mktemp("shell") for _ in scripts]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = dict(zip(scripts, pool.map(Script.run, scripts, folders), strict=True))
    return done.__getitem__


def _param(block: Block) -> Any:
    """Give a script to be tested; one that counts what fits into a time does so alone."""
    marks = [pytest.mark.alone] if TIMED.search(block.text) else []
    return pytest.param(Script(str(block), block.text), marks=marks)


SCRIPTS = [_param(item) for item in BLOCKS if item.kind == "console" and item.text != f"$ {TEST}"]


@needs_bash
@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_command_writes_what_is_shown(script: Script, shell: Callable[[Script], list[Command]]) -> None:
    for command in shell(script):
        command.check()


@pytest.fixture
def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in a folder in which the paths of the text exist and nothing can be spoilt."""
    monkeypatch.chdir(workplace(tmp_path))


@of_kind("python")
def test_a_script_runs(block: Block, capsys: pytest.CaptureFixture[str], at_work: None) -> None:
    with stand_ins(block.text) as ports:
        source = "\n" * block.line + replaced(block.text, ports)
        exec(compile(source, str(block.page), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().err == ""


@of_kind("pycon")
def test_a_session_gives_what_is_shown(block: Block, at_work: None) -> None:
    session = doctest.DocTestParser().get_doctest(f"{block.text}\n", {}, str(block), str(block.page), block.line)
    report: list[str] = []
    runner = doctest.DocTestRunner(Checker(), verbose=False)
    runner.run(session, out=report.append)
    assert not runner.failures, "".join(report)


def test_nothing_escapes() -> None:
    for block in [*BLOCKS, *(item for page in (TUTORIAL, *WITH_SERVER) for item in blocks_of(page))]:
        kinds = (*KINDS, "sql") if block.page in WITH_SERVER else KINDS
        known = block.kind in kinds or (block.kind == "text" and block.page in DOCS)
        assert known, f"{block}: blocks of kind {block.kind!r} are not run"
        assert block.text, f"{block} is empty"
        if block.kind == "console":
            assert block.text.startswith("$ "), f"{block} begins with output"
        if block.kind == "pycon":
            assert block.text.startswith(">>> "), f"{block} begins with output"


def test_a_page_has_no_blocks_of_other_makes() -> None:
    for page in PAGES:
        inside = {line for block in blocks_of(page) for line in range(block.line + 1, block.end + 1)}
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            directive = re.match(r" *\.\. ([\w-]+)::", line)
            assert not directive or directive[1] in DIRECTIVES, f"{page.name}:{number}"
            escapes = number not in inside and not directive and line.rstrip().endswith("::")
            assert not escapes, f"{page.name}:{number} begins a block that is not run"
            assert number in inside or not line.lstrip().startswith(">>>"), f"{page.name}:{number} is not run"
