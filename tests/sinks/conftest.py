"""A process of its own that reads files, for all tests of the files."""

from collections.abc import Iterator

import pytest

from tests.helpers.reading_apart import OtherProcess, ReadApart


@pytest.fixture(scope="session")
def read_apart() -> Iterator[ReadApart]:
    process = OtherProcess()
    yield process.read
    process.end()
