"""What other projects made for web pages is in the package as they published it, with its licence."""

import hashlib
import re
from pathlib import Path

import servomex.views

ASSETS = Path(servomex.views.__file__).parent / "assets"
NOTE = (ASSETS / "uPlot.txt").read_text(encoding="utf-8")


def test_uplot_is_unchanged() -> None:
    stated = dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", NOTE, re.MULTILINE))
    files = {path.name: path.read_bytes() for path in ASSETS.glob("uPlot.*") if path.name != "uPlot.txt"}
    assert sorted(files) == ["uPlot.LICENSE.txt", "uPlot.iife.min.js", "uPlot.min.css"]
    assert {hashlib.sha256(content).hexdigest(): name for name, content in files.items()} == stated


def test_its_version_and_licence_are_stated() -> None:
    (version,) = re.findall(r"^uPlot (\S+), ", NOTE, re.MULTILINE)
    assert f"uPlot (v{version})" in (ASSETS / "uPlot.iife.min.js").read_text(encoding="utf-8")[:200]
    assert (ASSETS / "uPlot.LICENSE.txt").read_text(encoding="utf-8").startswith("The MIT License")
