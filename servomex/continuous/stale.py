"""Why no new frame arrived: the last one is stale, or the line is silent. No input or output."""

from servomex.continuous.intake import REPEATED, REPEATED_CURE, Intake
from servomex.continuous.stream import BroadcastStream
from servomex.durations import counted
from servomex.errors import Argument, ErrorContext, ServomexStaleError, ServomexTimeoutError
from servomex.models.frame import Frame
from servomex.traffic.symptoms import PART_ONLY


def no_new_frame(
    frame: Frame | None, intake: Intake, stream: BroadcastStream, context: ErrorContext
) -> ServomexTimeoutError:
    """Return the error of a call for which no new frame arrived in time.

    Args:
        frame: The last one; ``None`` when there was none.
        intake: What was refused.
        stream: What was received.
        context: Where.
    """
    if frame is None:
        return _silence(intake, stream, context)
    age_s = frame.age_s
    why, cure = _why_none(frame, intake)
    message = f"no new broadcast: the last frame is {age_s:.1f} s old{why and f'; {why}'}"
    return ServomexStaleError(message, context, frame=frame, age_s=age_s, cure=cure)


def _why_none(frame: Frame, intake: Intake) -> tuple[str, str]:
    """Return what is known of why no new frame arrives, and what to do."""
    if intake.is_repeated:
        return REPEATED, REPEATED_CURE
    if intake.damaged_since:
        came = counted(intake.damaged_since, "damaged broadcast")
        return f"{came} arrived since (last: {intake.last_reason})", "Check the cable and the settings"
    if intake.refused_since:
        came = counted(intake.refused_since, "broadcast")
        return f"{came} arrived since and had to be refused (last: {intake.last_reason})", ""
    if frame.delayed_s:
        cure = "Check the network and the serial server, which hold up broadcasts"
        return f"it arrived up to {frame.delayed_s:.1f} s late", cure
    return "", "Check that the analyser is on, its frame frequency, and the cable"


def _silence(intake: Intake, stream: BroadcastStream, context: ErrorContext) -> ServomexTimeoutError:
    if not intake.dropped and stream.has_part:
        longer = Argument("listen")
        cure = f"Use a longer {longer}; if that does not help, check the cable"
        return ServomexTimeoutError(PART_ONLY, context, cure=cure, argument=longer)
    if count := stream.discarded_bytes + stream.pending:
        reason = f" (last: {intake.last_reason})" if intake.last_reason else ""
        seen = f"no broadcast: {counted(count, 'byte')} arrived, but no valid frame{reason}"
        return ServomexTimeoutError(seen, context, cure="Check the baud rate and the other serial settings")
    longer = Argument("listen")
    return ServomexTimeoutError(
        "no broadcast arrived: the frame frequency on the analyser's panel may be longer, or 0 (off)",
        context,
        cure=f"Use a longer {longer}; else check its communication mode, the serial settings and the cable",
        argument=longer,
    )
