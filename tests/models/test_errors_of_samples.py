"""An error that takes the place of a reading keeps what it says, in every copy."""

import pickle
from typing import Any

import pytest

from servomex.enums import ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexError,
    ServomexStaleError,
    ServomexTimeoutError,
    ServomexValidationError,
    tree,
)
from servomex.models.sample import Sample
from tests.helpers.frames import RECEIVED_AT

EVERY_ERROR = [kind for kind in vars(tree).values() if isinstance(kind, type) and issubclass(kind, ServomexError)]


class TestErrorsOfSamples:
    def of(self, error: Any) -> Sample:
        return Sample("rig A", ProtocolKind.MODBUS_RTU, RECEIVED_AT, 7, error=error)

    def test_they_are_equal_by_class_and_text(self) -> None:
        where = ErrorContext(port="COM3")
        first, twin = (self.of(ServomexTimeoutError("no reply", where, cure="Wait")) for _ in range(2))
        assert first == twin
        assert hash(first) == hash(twin)
        read_back = self.of(ServomexTimeoutError("no reply. Wait [COM3]"))
        assert read_back == first
        for error in (ServomexTimeoutError("no reply"), ServomexStaleError("no reply. Wait [COM3]"), None):
            assert self.of(error) != first

    def test_it_is_the_error_itself(self) -> None:
        error = ServomexTimeoutError("no reply")
        assert self.of(error).error is error
        assert self.of(None).error is None

    def test_an_error_of_others_is_wrapped_in_one_that_names_its_type(self) -> None:
        error = ZeroDivisionError("division by zero")
        wrapped = self.of(error).error
        assert wrapped is not None
        assert (type(wrapped), str(wrapped)) == (ServomexError, "ZeroDivisionError: division by zero")
        assert wrapped.__cause__ is error

    @pytest.mark.parametrize("wrong", ["no reply", 7, ServomexTimeoutError])
    def test_what_is_not_an_error_is_refused(self, wrong: object) -> None:
        with pytest.raises(ServomexValidationError, match="the error of a sample must be an exception, not"):
            self.of(wrong)

    @pytest.mark.parametrize("kind", EVERY_ERROR, ids=lambda kind: kind.__name__)
    def test_every_error_can_be_made_of_its_text_and_travels_between_processes(
        self, kind: type[ServomexError]
    ) -> None:
        sample = self.of(kind("no reply [COM3]"))
        assert pickle.loads(pickle.dumps(sample)) == sample
        assert (type(sample.error), str(sample.error)) == (kind, "no reply [COM3]")
