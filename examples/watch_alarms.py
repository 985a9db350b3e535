"""Send a mail when an alarm or fault is raised or cleared, and when the analyser cannot be read; until Ctrl-C."""

import argparse
import contextlib
import smtplib
import sys
import time
from collections import deque
from email.message import EmailMessage

import servomex

UNREAD_S = 30.0
"""An analyser that cannot be read for this long is worth a mail: its alarms would go unnoticed."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", help="such as /dev/ttyUSB0, COM3 or sim://moving")
    parser.add_argument("--server", required=True, metavar="HOST:PORT", help="an SMTP server, such as mail:25")
    parser.add_argument("--sender", required=True, help="address that the mails come from")
    parser.add_argument("--to", required=True, nargs="+", help="addresses that they go to")
    parser.add_argument("--every", type=float, default=2.0, help="seconds from one look to the next")
    parser.add_argument("--unread", type=float, default=UNREAD_S, help="seconds without a reading before a mail")
    given = parser.parse_args()
    mails = Mails(given.server, given.sender, given.to)
    try:
        with contextlib.suppress(KeyboardInterrupt), servomex.open_device(given.port) as analyzer:
            watch(analyzer, mails, given.every, given.unread)
    except servomex.ServomexError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def watch(analyzer: servomex.Analyzer, mails: "Mails", every_s: float, unread_s: float) -> None:
    raised: set[str] = set()
    read_at, reported = time.monotonic(), False
    while True:
        try:
            now = troubles(analyzer.poll())
        except servomex.ServomexError as error:  # not the end of an alarm: what was raised is kept
            if time.monotonic() - read_at > unread_s and not reported:
                mails.put(f"no readings for {time.monotonic() - read_at:.0f} s: {error.text}")
                reported = True
        else:
            if reported:
                mails.put("readings have come back")
            read_at, reported = time.monotonic(), False
            for trouble in sorted(now ^ raised):
                mails.put(f"{trouble}: {'raised' if trouble in now else 'cleared'}")
            raised = now
        mails.send()
        time.sleep(every_s)


def troubles(frame: servomex.Frame) -> set[str]:
    """Return every alarm and fault that is raised, and every value that is missing."""
    found = {"analyser fault"} if frame.analyser.fault else set()
    for reading in frame:
        name = f"{reading.channel} {reading.name or ''}".strip()
        words = [word for word in reading.status.words if word == "fault" or word.startswith("alarm")]
        found |= {f"{name} {word}" for word in words}
        if reading.value is None:
            found.add(f"{name} no value")
    return found


class Mails:
    """Mails that wait to be sent. What the server does not take now is tried again at the next look."""

    def __init__(self, server: str, sender: str, to: list[str]) -> None:
        host, _, port = server.partition(":")
        self._server, self._sender, self._to = (host, int(port or 25)), sender, to
        self._waiting: deque[str] = deque(maxlen=1000)

    def put(self, text: str) -> None:
        print(text, flush=True)
        self._waiting.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")

    def send(self) -> None:
        if not self._waiting:
            return
        mail = EmailMessage()
        mail["Subject"] = f"Gas analyser: {self._waiting[-1]}"
        mail["From"], mail["To"] = self._sender, ", ".join(self._to)
        mail.set_content("\n".join(self._waiting))
        try:
            with smtplib.SMTP(*self._server, timeout=10) as server:
                server.send_message(mail)
        except OSError as error:  # what smtplib raises is one, too
            print(f"the mail was not sent, and is tried again: {error}", file=sys.stderr, flush=True)
        else:
            self._waiting.clear()


if __name__ == "__main__":
    sys.exit(main())
