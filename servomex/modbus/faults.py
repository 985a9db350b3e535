"""What may become of one attempt to ask, other than a reply. These never leave the package; errors do."""


class ReplyFault(Exception):  # noqa: N818 (it is not an error of the public tree)
    """An attempt failed."""

    @property
    def passing(self) -> bool:
        """Whether another attempt may succeed."""
        return True


class NoReplyFault(ReplyFault):
    """No byte of a reply arrived."""


class EchoOnlyFault(NoReplyFault):
    """Only the adapter's echo of the request arrived."""


class LateFault(ReplyFault):
    """Only replies to earlier requests arrived."""


class DamagedFault(ReplyFault):
    """Bytes arrived that are not a reply to the request."""


class CutFault(DamagedFault):
    """A reply began and stopped."""


class GatewayFault(ReplyFault):
    """The reply is an exception that no analyser sends: it is a gateway's, which may still get the real reply.

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
    """One request got two different replies."""

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
