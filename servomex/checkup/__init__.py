"""The check-up of a computer, a port, its line and its analyser."""

from typing import TYPE_CHECKING

from servomex.runtime.lazy import hand_on

if TYPE_CHECKING:
    from servomex.checkup.examination import CheckRequest as CheckRequest
    from servomex.checkup.examination import examine as examine
    from servomex.checkup.findings import Finding as Finding
    from servomex.checkup.findings import Verdict as Verdict
else:
    __getattr__, __dir__ = hand_on(
        __name__, {"examination": "CheckRequest examine", "findings": "Finding Verdict"}
    )
