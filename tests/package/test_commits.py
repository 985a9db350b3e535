"""The hook on commit messages lets those pass that CONTRIBUTING.rst asks for."""

import re
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[2] / ".pre-commit-config.yaml"
(PATTERN,) = re.findall(r"^        entry: '(\\A.*)'$", CONFIG.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("message", [
    "A late reply is refused",
    f"A {'b' * 70}",
    f"A late reply is refused\n\nWhy: {'word ' * 30}\nand more\n",
    "A late reply is refused\n# Comments of git\n",
])  # fmt: skip
def test_a_short_subject_passes_with_a_text_of_any_width_after_an_empty_line(message: str) -> None:
    assert not re.search(PATTERN, message, re.MULTILINE)


@pytest.mark.parametrize("message", [
    "",
    "\n",
    "fix",
    "fix\n",
    "fix \n\nA late reply is refused\n",
    f"A {'b' * 71}",
    f"A {'b' * 71}\n\nWhy\n",
    "A late reply is refused\nand so is a damaged one\n",
])  # fmt: skip
def test_a_long_subject_or_one_of_a_word_or_without_an_empty_line_after_it_is_refused(message: str) -> None:
    assert re.search(PATTERN, message, re.MULTILINE)
