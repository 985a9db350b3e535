"""Tags and errors in files from anywhere: what nobody could have given is refused, and takes no memory."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from servomex.errors import ServomexError, ServomexSinkSchemaError
from servomex.models.plain import LONGEST_TEXT
from servomex.models.sample import Sample
from servomex.recording.load import load
from tests.helpers.any_samples import most_tags
from tests.helpers.reading_apart import ReadApart
from tests.helpers.recordings import ONE_EACH, batch, write

TAGGED = attrs.evolve(batch(0)[0], metadata={"site": "mill-3"})
NOT_TAGS = {
    "a list": '[["site","mill-3"]]',
    "a number": "7",
    "a text": '""',
    "no JSON": "site=mill-3",
    "half of it": '{"site":"mill-3',
    "nested": '{"site":{"a":"b"}}',
    "a list in it": '{"site":["a"]}',
    "a number in it": '{"site":7}',
    "nothing in it": '{"site":null}',
    "an empty text": '{"site":""}',
    "a key twice": '{"site":"a","site":"b"}',
    "a key that is no word": '{"a b":"c"}',
    "the name of a column": '{"value":"20"}',
    "a line end": '{"site":"a\\nb"}',
    "half a surrogate pair": '{"site":"\\ud800"}',
    "too many": json.dumps({f"k{number}": "x" for number in range(33)}),
    "a long key": json.dumps({"k" * 65: "x"}),
    "a long text": json.dumps({"k": "x" * 257}),
    "deep brackets": "[" * 9_000,
    "deep objects": '{"a":' * 3_000,
    "a huge number": '{"a":' + "9" * 5_000 + "}",
}


def in_csv(path: Path, text: str) -> None:
    whole = path.read_text(encoding="utf-8")
    quoted = '"' + text.replace('"', '""') + '"'
    path.write_text(whole.replace('"{""site"":""mill-3""}"', quoted), encoding="utf-8")


def in_json(path: Path, text: str) -> None:
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace('{"site": "mill-3"}', text), encoding="utf-8")


def in_database(path: Path, text: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE samples SET tags = ?", (text,))


@pytest.mark.parametrize("text", NOT_TAGS.values(), ids=NOT_TAGS)
@pytest.mark.parametrize(
    ("name", "put"), [("run.csv", in_csv), ("run.jsonl", in_json), ("run.sqlite", in_database)]
)
def test_what_are_no_tags_is_refused_with_its_row(
    name: str, put: Callable[[Path, str], None], text: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    write(path, [[TAGGED]])
    put(path, text)
    if name == "run.jsonl" and text == NOT_TAGS["a key twice"]:
        pytest.skip("every reader of JSON takes the last one")
    with pytest.raises(ServomexSinkSchemaError) as caught:
        list(load(path))
    said = str(caught.value)
    assert name in said
    assert "line " in said or "row 1" in said or "line 1" in said, said
    assert len(said) < 400 + len(str(tmp_path))


def with_tags(path: Path, column: Any) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.num_columns - 1, "tags", column), path)


PARQUET: dict[str, tuple[Any, str]] = {
    "numbers": (
        pa.array([[("site", 7)]], pa.map_(pa.string(), pa.int64())),
        "int64 ('tags')> instead of map",
    ),
    "a struct": (pa.array([{"site": "mill-3"}]), "'tags' is struct<site: "),
    "a list of texts": (pa.array([["site"]]), "'tags' is list<"),
    "one without a pair": (pa.array([[["site"]]]), "or parts of one"),
    "three in a pair": (pa.array([[["site", "a", "b"]]]), "or parts of one"),
    "no text": (pa.array([[("site", None)]], pa.map_(pa.string(), pa.string())), "invalid tags"),
    "an empty text": (pa.array([[("site", "")]], pa.map_(pa.string(), pa.string())), "invalid tags"),
    "a key twice": (pa.array([[("a", "x"), ("a", "y")]], pa.map_(pa.string(), pa.string())), "invalid tags"),
    "too many": (
        pa.array([[(f"k{number}", "x") for number in range(33)]], pa.map_(pa.string(), pa.string())),
        "a row has 33 tags",
    ),
    "a long text": (pa.array([[("a", "x" * 2_000)]], pa.map_(pa.string(), pa.string())), "a tag has 2000 bytes"),
    "JSON that is none": (pa.array(["{"]), "damaged"),
    "long JSON": (pa.array(["[" * 100_000]), "a tag has 100000 bytes"),
}


@pytest.mark.parametrize(("column", "words"), PARQUET.values(), ids=PARQUET)
def test_what_are_no_tags_in_parquet_is_refused(column: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "run.parquet"
    write(path, [[TAGGED]])
    with_tags(path, column)
    with pytest.raises(ServomexSinkSchemaError, match=r"run\.parquet") as caught:
        list(load(path))
    assert words in str(caught.value)


SHAPES: dict[str, Callable[[], Any]] = {
    "one long text in many rows": lambda: pa.array(
        [[("a", "x" * 100_000)]] * 3_000, pa.map_(pa.string(), pa.string())
    ),
    "many in one row": lambda: pa.array(
        [[("a", "x")] * 2_000_000, *[[]] * 2_999], pa.map_(pa.string(), pa.string())
    ),
    "seven million": lambda: pa.array([[("a", "x")] * 2_400] * 3_000, pa.map_(pa.string(), pa.string())),
    "long JSON in many rows": lambda: pa.array(["[" * 100_000] * 3_000),
}


@pytest.mark.parametrize("made", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dictionary", [True, False])
def test_tags_that_unpack_to_much_take_no_memory(
    made: Callable[[], Any], dictionary: bool, tmp_path: Path, read_apart: ReadApart
) -> None:
    path = tmp_path / "run.parquet"
    write(path, [[TAGGED] * 3_000])
    table = pq.read_table(path)
    table = table.set_column(table.num_columns - 1, "tags", made())
    pq.write_table(table, path, compression="zstd", use_dictionary=dictionary)
    rows, said = read_apart(path)
    assert rows == 0
    assert "ServomexSinkSchemaError" in said


@pytest.mark.parametrize(("rows", "pairs", "size", "words"), [
    (12_000, 1, 9_000, "are too large"), (3_000, 2_400, 1, "do not hold 3000 rows"),
])  # fmt: skip
def test_what_would_take_too_much_is_refused_before_it_is_unpacked(
    rows: int, pairs: int, size: int, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.parquet"
    write(path, [[TAGGED] * rows])
    table = pq.read_table(path)
    tags = pa.array([[("a", "x" * size)] * pairs] * rows, pa.map_(pa.string(), pa.string()))
    pq.write_table(
        table.set_column(table.num_columns - 1, "tags", tags), path, compression="zstd", use_dictionary=False
    )
    with pytest.raises(ServomexSinkSchemaError, match=words):
        list(load(path))


@pytest.mark.parametrize("name", ONE_EACH)
def test_the_most_tags_that_there_may_be_return(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    written = write(path, [[attrs.evolve(TAGGED, metadata=most_tags)] * 3])
    assert list(load(path)) == written
    assert len(json.dumps(most_tags)) < LONGEST_TEXT


class TestErrors:
    @pytest.mark.parametrize("name", ONE_EACH)
    def test_a_class_that_is_not_ours_comes_back_as_the_plain_one(self, name: str, tmp_path: Path) -> None:
        class OwnError(ServomexError):
            pass

        failed = attrs.evolve(batch(6)[0], error=OwnError("no gas"))
        write(tmp_path / name, [[failed]])
        (found,) = load(tmp_path / name)
        assert (type(found.error), str(found.error)) == (ServomexError, "no gas")

    def test_what_is_named_in_a_file_is_no_class_but_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "run.csv"
        write(path, [batch(6)])
        whole = path.read_text(encoding="utf-8")
        for kind in ("Argument", "Exception", "contextlib", "SystemExit", "__class__", "=x"):
            path.write_text(whole.replace("ServomexTimeoutError", kind), encoding="utf-8")
            (found,) = load(path)
            assert (type(found.error), str(found.error)) == (ServomexError, "no reply to 6")

    @pytest.mark.parametrize(("old", "new", "words"), [
        ("no reply to 6,ServomexTimeoutError", ",ServomexTimeoutError", "error is empty, but error_type is"),
        ("no reply to 6,ServomexTimeoutError", "no reply to 6,", "error_type is empty"),
    ])  # fmt: skip
    def test_one_without_the_other_is_refused(self, old: str, new: str, words: str, tmp_path: Path) -> None:
        path = tmp_path / "run.csv"
        write(path, [batch(6)])
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        with pytest.raises(ServomexSinkSchemaError, match=f"line 2: {words}"):
            list(load(path))


def test_rows_with_the_same_tags_share_them(tmp_path: Path) -> None:
    for name in ("run.csv", "run.jsonl", "run.sqlite", "run.parquet"):
        write(tmp_path / name, [[TAGGED] * 100])
        found: list[Sample] = list(load(tmp_path / name))
        assert len({id(sample.metadata) for sample in found}) == 1, name
