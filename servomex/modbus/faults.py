"""What may become of one attempt to ask, other than a reply. These never leave the package; errors do."""


class ReplyFault(Exception):  # noqa: N818 (it is not an error of the public tree)
    """An attempt failed."""

    @property
    def passing(self) -> bool:
        """Whether another attempt may succeed."""
        return True


class NoReplyFault(ReplyFault):
    """Not one byte of a reply came."""


class EchoOnlyFault(NoReplyFault):
    """Only the adapter's echo of the request came."""


class LateFault(ReplyFault):
    """Only replies to earlier requests came."""


class DamagedFault(ReplyFault):
    """Bytes came that are no reply to the request."""


class CutFault(DamagedFault):
    """A reply began and stopped."""


class GatewayFault(ReplyFault):
    """An exception came that no analyser sends: from a gateway, which may still get the reply.

    Args:
        code: The exception code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code:02d}")
        self.code = code

    @property
    def passing(self) -> bool:
        """Whether the code says that the request may succeed later: busy, or no answer from beyond a gateway."""
        return self.code in (5, 6, 10, 11)


class DoubleFault(ReplyFault):
    """Two different replies came to one request."""

    @property
    def passing(self) -> bool:
        """Never: the other device is still there."""
        return False


class DisputeFault(ReplyFault):
    """The replies to the same request differ from one to the next."""


class UnquietFault(ReplyFault):
    """The line did not fall silent."""


class TimeUpFault(ReplyFault):
    """The deadline of the call passed before the request could be sent, or in the middle of the reply."""
