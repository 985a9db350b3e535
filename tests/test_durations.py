"""Durations and sizes as people write them."""

import pytest

from servomex.durations import parse_duration, parse_size
from servomex.errors import ServomexValidationError


@pytest.mark.parametrize(("text", "seconds"), [
    ("90s", 90), ("15m", 900), ("8h", 28_800), ("2d", 172_800), ("1.5h", 5400), ("0.25s", 0.25), (" 3 m ", 180),
    ("3650d", 315_360_000), ("500ms", 0.5), ("1ms", 0.001),
])  # fmt: skip
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", [
    "", "90", "s", "-1s", "1w", "1M", "1 h 30 m", "1h30m", "1_0s", "１s", "nan s", "inf s", "1e3s", ".5s", "1.s",
    "1us", "1MS",
])  # fmt: skip
def test_what_is_no_duration_is_reported_with_examples(text: str) -> None:
    with pytest.raises(ServomexValidationError, match=r"is not a duration\. Write it as 500ms, 90s, 15m,"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0s", "0.0h", "3651d", "9" * 400 + "s"])
def test_a_duration_is_neither_nothing_nor_ten_years(text: str) -> None:
    with pytest.raises(ServomexValidationError, match="more than 0 and at most 3650d"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "size"), [
    ("1B", 1), ("500kB", 500_000), ("100MB", 100_000_000), ("100mb", 100_000_000), ("1GB", 10**9),
    ("1.5 GB", 15 * 10**8), ("2TB", 2 * 10**12),
])  # fmt: skip
def test_a_size_is_a_number_and_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "100", "MB", "1MiB", "-1MB", "1d", "1 000 kB"])
def test_what_is_no_size_is_reported_with_examples(text: str) -> None:
    with pytest.raises(ServomexValidationError, match=r"is not a size\. Write it as 500kB, 100MB or 1GB"):
        parse_size(text)


def test_a_size_is_a_byte_at_least() -> None:
    with pytest.raises(ServomexValidationError, match="from 1 byte to"):
        parse_size("0.1B")


@pytest.mark.parametrize("text", ["9" * 400 + "TB", "1" + "0" * 20 + "kB"])
def test_a_size_beyond_all_disks_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(ServomexValidationError, match="from 1 byte to 1000000TB") as caught:
        parse_size(text)
    assert len(str(caught.value)) < 200
