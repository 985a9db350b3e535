"""The hook on commit messages lets those pass that CONTRIBUTING.rst asks for."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import commit_subject
from tests.helpers.commit_subject import fault_of
from tests.helpers.paths import ROOT


@pytest.mark.parametrize("message", [
    "A late reply is refused",
    f"A {'b' * 70}",
    f"CO₂ {'é' * 68}",
    f"A late reply is refused\n\nWhy: {'word ' * 30}\nand more\n",
    "A late reply is refused\n# Comments of git\n",
    "# This is a combination of 2 commits.\n# This is the 1st commit message:\n\nA late reply is refused\n",
    f"A late reply is refused\n# ------ >8 ------\ndiff {'b' * 80}\n",
])  # fmt: skip
def test_a_short_subject_passes_with_a_text_of_any_width_after_an_empty_line(message: str) -> None:
    assert fault_of(message) is None


@pytest.mark.parametrize("message", [
    "",
    "\n",
    "# Comments of git\n",
    "fix",
    "fix\n",
    "fix \n\nA late reply is refused\n",
    f"A {'b' * 71}",
    f"A {'b' * 71}\n\nWhy\n",
    f"# This is a combination of 2 commits.\n# This is the 1st commit message:\n\nA {'b' * 71}\n",
    "A late reply is refused\nand so is a damaged one\n",
    "A late reply is refused\n# Comments of git\nand so is a damaged one\n",
])  # fmt: skip
def test_a_long_subject_or_one_of_a_word_or_without_an_empty_line_after_it_is_refused(message: str) -> None:
    assert fault_of(message)


def test_the_hook_of_git_is_this_program(tmp_path: Path) -> None:
    program = Path(commit_subject.__file__).relative_to(ROOT).as_posix()
    assert f"entry: python {program}\n" in (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    message = tmp_path / "COMMIT_EDITMSG"
    for text, code in (("A late reply is refused\n", 0), (f"A {'b' * 71}\n", 1)):
        message.write_text(text, encoding="utf-8")
        command = [sys.executable, str(ROOT / program), str(message)]
        run = subprocess.run(command, capture_output=True, check=False)
        assert (run.returncode, bool(run.stderr)) == (code, bool(code))
