"""The files and figures of a plot: pixels where they belong, the structure of svg, pages that hold everything."""

import base64
import hashlib
import io
import json
import re
import threading
import warnings
import xml.etree.ElementTree as ET
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import attrs
import pytest

import servomex
from servomex.errors import (
    ServomexSinkDependencyError,
    ServomexSinkReadError,
    ServomexSinkWriteError,
    ServomexValidationError,
)
from servomex.views.looks import BANDS
from tests.helpers.plotted import (
    BEGIN,
    CALIBRATING,
    FAULT,
    MAINTENANCE,
    OUTAGE,
    WARMING_UP,
    course,
    hour,
    reading,
    sample,
    written,
)

HOSTILE = "<img src=x onerror=alert(1)></script>$x_$&\u2028"


@pytest.fixture(scope="module")
def figure() -> Any:
    pytest.importorskip("matplotlib")
    return servomex.plot(hour())


@pytest.fixture(scope="module")
def pixels(figure: Any) -> Any:
    """The picture, as numbers of red, green and blue."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="raw", dpi=figure.dpi)
    import numpy as np

    width, height = (round(item * figure.dpi) for item in figure.get_size_inches())
    return np.frombuffer(buffer.getvalue(), np.uint8).reshape(height, width, 4)[..., :3].astype(int)


def column(figure: Any, second: float) -> int:
    """The column of pixels at a time of the hour."""
    days = (BEGIN.timestamp() + second) / 86_400
    x: float = figure.axes[0].transData.transform((days, 0))[0]
    return round(x)


def panel_rows(figure: Any, place: int = 0) -> slice:
    """The rows of pixels of a panel."""
    box, height = figure.axes[place].get_window_extent(), figure.get_size_inches()[1] * figure.dpi
    return slice(round(height - box.y1) + 2, round(height - box.y0) - 2)


def tint(colour: str) -> tuple[int, ...]:
    """The colour of a band on white: it is mostly transparent."""
    alpha = 0x30 / 255
    return tuple(round(255 + (int(colour[at : at + 2], 16) - 255) * alpha) for at in (1, 3, 5))


class TestPicture:
    @pytest.mark.parametrize(("word", "span"), [
        ("warming up", WARMING_UP), ("calibrating", CALIBRATING), ("maintenance", MAINTENANCE), ("fault", FAULT),
    ])  # fmt: skip
    def test_a_band_has_its_colour_from_its_beginning_to_its_end(
        self, figure: Any, pixels: Any, word: str, span: tuple[int, int]
    ) -> None:
        colour = tint(BANDS[word])
        rows = panel_rows(figure)
        has = [bool((abs(pixels[rows, x] - colour).max(axis=1) <= 3).sum() > 20) for x in range(pixels.shape[1])]
        begin, end = column(figure, span[0]), column(figure, span[1])
        assert all(has[begin + 3 : end - 2])
        assert not any(has[: begin - 1] + has[end + 2 :])

    def test_a_gap_has_no_curve_and_nothing_else_has_none(self, figure: Any, pixels: Any) -> None:
        rows = panel_rows(figure, 2)  # vpm, where there is one curve
        blue = (abs(pixels[rows] - (0x00, 0x72, 0xB2)).max(axis=2) < 60).any(axis=0)
        begin, end = column(figure, OUTAGE[0]), column(figure, OUTAGE[1])
        assert not blue[begin + 2 : end - 2].any()
        assert blue[column(figure, 5) : begin - 3].all()

    def test_each_state_has_a_row_with_its_words(self, figure: Any) -> None:
        labels = [tick.get_text() for tick in figure.axes[1].get_yticklabels()]
        assert labels[:4] == ["analyser fault", "analyser maintenance", "analyser calibrating", "I1 maintenance"]
        assert {"I1 alarm 1", "I1 alarm 2", "I1, I3 no value"} <= {*labels}

    def test_legend_and_axis_say_what_is_what(self, figure: Any) -> None:
        legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert legend[:3] == ["I1 Oxygen", "I3 CO₂", "uncertain"]
        assert {"fault (F)", "maintenance (M)", "calibrating (C)", "warming up (W)", "alarm begins"} <= {*legend}
        assert figure.axes[-1].get_xlabel().startswith("local time (")
        assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["%", "vpm", "mA"]

    def test_names_are_no_formulas_and_no_hidden_labels(self) -> None:
        pytest.importorskip("matplotlib")
        names = [HOSTILE, "_hidden", r"$\frac{1$", "\u6c27\u6c14"]
        found = [
            sample(n, reading(n, f"I{place}", 1.0, name=name))
            for n in range(9)
            for place, name in enumerate(names, 1)
        ]
        figure: Any = servomex.plot(found, title=r"$\frac{1$")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure.savefig(io.BytesIO(), format="png")
        legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert legend[1:3] == ["I2 _hidden", r"I3 $\frac{1$"]

    def test_the_size_is_the_one_that_was_asked_for(self) -> None:
        pytest.importorskip("matplotlib")
        figure = servomex.plot(course([1.0] * 9), size=(640, 480))
        assert [*(figure.get_size_inches() * figure.dpi)] == [640, 480]

    def test_any_values_and_a_single_reading_can_be_drawn(self) -> None:
        pytest.importorskip("matplotlib")
        for values in ([1.0], [1.7e308, -1.7e308], [5e-324, 0.0], [None]):
            servomex.plot(course(values)).savefig(io.BytesIO(), format="png")

    def test_several_threads_plot_at_once(self) -> None:
        pytest.importorskip("matplotlib")
        sizes: list[int] = []

        def run() -> None:
            buffer = io.BytesIO()
            servomex.plot(course([1.0, 2.0] * 9)).savefig(buffer, format="png")
            sizes.append(len(buffer.getvalue()))

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(sizes) == 4
        assert len({*sizes}) == 1


class TestSvg:
    def test_it_has_curves_bands_alarms_and_rows(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        servomex.plot(hour(), tmp_path / "run.svg")
        groups = {item.get("id"): item for item in ET.parse(tmp_path / "run.svg").iter() if item.get("id")}
        assert {"curve-0-0", "uncertain-0-0", "curve-0-1", "curve-1-0", "curve-2-0", "alarms-0"} <= groups.keys()
        assert {f"band-0-{word.replace(' ', '-')}" for word in BANDS} <= groups.keys()
        assert "uncertain-1-0" not in groups
        moves = [len(re.findall("M", path.get("d") or "")) for path in groups["curve-1-0"].iter() if path.get("d")]
        assert moves == [4], "one after the outage, the pause and the fault each"

    @pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
    def test_each_kind_is_written_whole_or_not_at_all(self, tmp_path: Path, kind: str) -> None:
        pytest.importorskip("matplotlib")
        servomex.plot(course([1.0] * 9), tmp_path / f"run.{kind}")
        begins = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
        assert (tmp_path / f"run.{kind}").read_bytes().startswith(begins[kind])
        assert [path.name for path in tmp_path.iterdir()] == [f"run.{kind}"]


class _Page(HTMLParser):
    """The elements of a page, and the text of each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        last = self.tags[-1][0] if self.tags else ""
        self.inside.get(last, self.words).append(data)


def page_of(tmp_path: Path, samples: Any, **options: Any) -> tuple[str, _Page]:
    servomex.plot(samples, tmp_path / "run.html", **options)
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    return text, _Page(text)


class TestPage:
    def test_it_loads_nothing_and_its_policy_names_its_own_scripts(self, tmp_path: Path) -> None:
        text, page = page_of(tmp_path, hour())
        assert not [item for item in page.tags if {"src", "href", "style", "onclick"} & item[1].keys()]
        (policy,) = [item["content"] or "" for tag, item in page.tags if tag == "meta" and "http-equiv" in item]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        for kind in ("script", "style"):
            for source in re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL):
                code = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
                assert f"'sha256-{code}'" in policy
        assert len(text) < 2_000_000

    def test_hostile_names_are_text(self, tmp_path: Path) -> None:
        found = [sample(n, reading(n, "I1", 1.0, name=HOSTILE), device="</title><b>") for n in range(9)]
        text, page = page_of(tmp_path, found)
        assert not {"img", "b"} & {tag for tag, _ in page.tags}
        assert HOSTILE not in text
        assert any(HOSTILE in word for word in page.words)
        assert json.loads("".join(page.inside["script"][:1]))["panels"][0]["curves"][0]["label"].endswith(HOSTILE)

    def test_its_tables_have_channels_and_events_without_a_script(self, tmp_path: Path) -> None:
        _, page = page_of(tmp_path, hour())
        words = " ".join(page.words)
        for text in ("I1 Oxygen alarm 1 off after 2 min 0 s", "is back after 3 min 0 s", "highest good", "25.0"):
            assert text in words
        assert [item for tag, item in page.tags if tag == "th" and item.get("scope") != "col"] == []

    def test_any_values_can_be_on_it(self, tmp_path: Path) -> None:
        values = [1.7976931348623157e308, -5e-324, 0.1 + 0.2]
        _, page = page_of(tmp_path, course(values))
        data = json.loads("".join(page.inside["script"][:1]))
        assert data["panels"][0]["curves"][0]["parts"][0]["v"] == pytest.approx(values)

    def test_a_long_recording_is_reduced_and_says_so(self, tmp_path: Path) -> None:
        values = [20.0 + n % 7 / 10 for n in range(100_000)]
        values[54_321] = 99.5
        text, page = page_of(tmp_path, course(values))
        assert re.search(r"Shown: [\d,]+ of 100,000 values", text)
        assert len(text) < 2_000_000
        data = json.loads("".join(page.inside["script"][:1]))
        assert 99.5 in data["panels"][0]["curves"][0]["parts"][0]["v"]
        assert "Shown:" not in page_of(tmp_path, course(values[:1000]), overwrite=True)[0]

    def test_many_channels_share_the_room(self, tmp_path: Path) -> None:
        values = [20.0 + n % 7 / 10 for n in range(3_000)]
        many = [item for number in range(20) for item in course(values, channel=f"gas {number}")]
        text, page = page_of(tmp_path, many)
        data = json.loads("".join(page.inside["script"][:1]))
        points = sum(len(part["v"]) for curve in data["panels"][0]["curves"] for part in curve["parts"])
        assert points <= 50_000
        assert f"Shown: {points:,} of 60,000 values" in text


class TestWindow:
    def times(self, tmp_path: Path, **options: Any) -> tuple[float, float]:
        _, page = page_of(tmp_path, course([1.0] * 3600), **options)
        data = json.loads("".join(page.inside["script"][:1]))
        return data["begin"] - BEGIN.timestamp(), data["end"] - BEGIN.timestamp()

    def test_the_end_of_a_recording(self, tmp_path: Path) -> None:
        assert self.times(tmp_path, last="10m") == (2999, 3599)
        assert self.times(tmp_path, last=60, overwrite=True) == (3539, 3599)

    def test_from_one_time_to_another(self, tmp_path: Path) -> None:
        half = datetime.fromtimestamp(BEGIN.timestamp() + 1800, BEGIN.tzinfo)
        assert self.times(tmp_path, start=half) == (1800, 3599)
        local = half.astimezone().replace(tzinfo=None).isoformat(" ")
        assert self.times(tmp_path, end=local, overwrite=True) == (0, 1800)
        assert self.times(tmp_path, end=half, last=60, overwrite=True) == (1740, 1800)

    def test_files_are_put_in_order(self, tmp_path: Path) -> None:
        samples = course([1.0] * 100)
        late, early = written(tmp_path / "a.csv", samples[50:]), written(tmp_path / "b.csv", samples[:50])
        _, page = page_of(tmp_path, [late, early])
        (parts,) = (
            curve["parts"] for curve in json.loads("".join(page.inside["script"][:1]))["panels"][0]["curves"]
        )
        assert [(len(part["v"]), part["b"]) for part in parts] == [(100, [0])]


class TestMistakes:
    @pytest.mark.parametrize(("options", "error", "words"), [
        ({"by": "gas"}, ServomexValidationError, "by must be"),
        ({"size": (1, 1)}, ServomexValidationError, "200 to 10000"),
        ({"size": "large"}, ServomexValidationError, "width and a height"),
        ({"title": 3}, ServomexValidationError, "title"),
        ({"last": "1 week"}, ServomexValidationError, "not a duration"),
        ({"last": 60, "start": "2026-03-01"}, ServomexValidationError, "Omit one"),
        ({"start": "noon"}, ServomexValidationError, "not a time"),
        ({"start": datetime(2026, 3, 1)}, ServomexValidationError, "no zone"),  # noqa: DTZ001
        ({"start": "2026-03-02", "end": "2026-03-01"}, ServomexValidationError, "before it begins"),
        ({"start": "2027-01-01"}, ServomexValidationError, "no readings to plot"),
        ({"output": "run.bmp"}, ServomexValidationError, r"\.png"),
        ({"output": "nowhere/run.html"}, ServomexSinkWriteError, "no folder"),
    ])  # fmt: skip
    def test_each_says_what_is_wrong(self, options: Any, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            servomex.plot(course([1.0] * 9), **{"output": "never.html", **options})
        assert not Path("never.html").exists()

    def test_a_file_is_not_replaced_unless_asked(self, tmp_path: Path) -> None:
        page_of(tmp_path, course([1.0] * 9))
        with pytest.raises(ServomexSinkWriteError, match="exists already"):
            page_of(tmp_path, course([1.0] * 9))

    def test_a_missing_recording_and_mixed_sources_are_errors(self, tmp_path: Path) -> None:
        with pytest.raises(ServomexSinkReadError, match="there is no file"):
            servomex.plot(tmp_path / "no.csv", tmp_path / "run.html")
        mixed: Any
        for mixed in ([tmp_path / "a.csv", sample(0)], [sample(0), "a.csv"]):
            with pytest.raises(ServomexValidationError, match="samples"):
                servomex.plot(mixed, tmp_path / "run.html")

    def test_without_matplotlib_the_error_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
        with pytest.raises(ServomexSinkDependencyError, match=r"servomex\[plot\]"):
            servomex.plot(course([1.0] * 9))

    def test_a_page_needs_no_matplotlib(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
        page_of(tmp_path, [attrs.evolve(item, device="rig") for item in course([1.0] * 9)])
