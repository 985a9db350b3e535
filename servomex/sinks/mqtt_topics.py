"""Topics of MQTT: any text becomes one level of a topic, and different texts different levels."""

import hashlib
import re

LONGEST_LEVEL = 160
"""Bytes of a level; a longer one is cut, and gets a digest of the whole. A topic has at most 65,535."""
_DIGEST = 12
_UNSAFE = re.compile(r"[/+#%\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_BEYOND = frozenset(chr(plane * 0x10000 + last) for plane in range(1, 17) for last in (0xFFFE, 0xFFFF))
"""Characters that are not characters, for which a broker may close the connection."""

AVAILABILITY, ERROR, LATE = "availability", "error", "late"
"""The levels in the place of a channel, and the one below it."""
ONLINE, OFFLINE = b"online", b"offline"
_TAKEN = frozenset({AVAILABILITY, ERROR})


def level(text: str) -> str:
    """Return a text as one level of a topic: percent-encoded where it must be, and not too long."""
    found = _UNSAFE.sub(lambda char: _encoded(char[0]), text)
    if not _BEYOND.isdisjoint(found):
        found = "".join(_encoded(char) if char in _BEYOND else char for char in found)
    if not found:
        return "%"
    if len(found.encode()) <= LONGEST_LEVEL:
        return found
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    kept = found.encode()[: LONGEST_LEVEL - _DIGEST - 2].decode("utf-8", "ignore")
    return f"{re.sub('%[0-9A-F]?$', '', kept)}%~{digest}"


def channel_level(channel: str) -> str:
    """Return the level of a channel, which is never one of those that are not channels."""
    return f"%{ord(channel[0]):02X}{channel[1:]}" if channel in _TAKEN else level(channel)


def device_topic(prefix: str, site: str, device: str) -> str:
    """Return the topic below which all of an analyser is."""
    return f"{prefix}/{level(site)}/{level(device)}"


def bridge_topic(prefix: str, bridge: str) -> str:
    """Return the topic that says whether a recording is connected."""
    return f"{prefix}/bridge/{level(bridge)}"


def identifier(*texts: str) -> str:
    """Return a word of letters, digits, ``_`` and ``-`` for texts, different for different ones."""
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    words = re.sub(r"[^A-Za-z0-9]+", "_", "_".join(texts)).strip("_")[:46]
    return f"servomex_{words}_{digest}" if words else f"servomex_{digest}"


def _encoded(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))
