"""Tags: what is taken, what is refused, and that nobody changes them afterwards."""

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servomex.errors import ServomexValidationError
from servomex.errors.mappings import FrozenMapping, frozen
from servomex.models.columns import ROW_COLUMNS
from servomex.models.tags import LONGEST_NAME, LONGEST_VALUE, MOST_TAGS, name_of, tags_of


@given(st.dictionaries(st.from_regex(r"\A[A-Za-z][A-Za-z0-9_.-]{0,20}\Z"), st.text("aäµ ,=\"'\\{", min_size=1)))
def test_tags_are_taken_as_they_are(given: dict[str, str]) -> None:
    usable = {key: text for key, text in given.items() if key not in ROW_COLUMNS}
    assert tags_of(dict(list(usable.items())[:MOST_TAGS])) == dict(list(usable.items())[:MOST_TAGS])


def test_none_are_no_tags() -> None:
    assert tags_of(None) == {}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("site=mill", "a mapping"),
        ([("site", "mill")], "a mapping"),
        ({"": "x"}, "a word"),
        ({"1st": "x"}, "a word"),
        ({"a b": "x"}, "a word"),
        ({"a\n": "x"}, "a word"),
        ({5: "x"}, "a word"),
        ({"a" * 65: "x"}, "a word"),
        ({"unit": "x"}, "'unit': a column of each row has this name"),
        ({"site": ""}, "'site' must be a text"),
        ({"site": 3}, "'site' must be a text"),
        ({"site": "a\nb"}, "'site' must be a text"),
        ({"site": "a\ud800"}, "'site' must be a text"),
        ({"site": "x" * (LONGEST_VALUE + 1)}, "'site' must be a text"),
        ({f"t{number}": "x" for number in range(MOST_TAGS + 1)}, "33 tags"),
    ],
)
def test_what_is_no_tag_is_refused(wrong: Any, words: str) -> None:
    with pytest.raises(ServomexValidationError, match=words):
        tags_of(wrong)


@pytest.mark.parametrize("name", ["a", "stack 1", "Öfen/3, links", "x" * LONGEST_NAME])
def test_a_name_is_taken_as_it_is(name: str) -> None:
    assert name_of(name) == name


@pytest.mark.parametrize(
    "wrong", ["", " ", None, 3, b"a", "a\n", "a\x1b[2J", "a\u2028b", "a\ud800", "x" * (LONGEST_NAME + 1)]
)
def test_what_is_no_name_is_refused(wrong: Any) -> None:
    with pytest.raises(ServomexValidationError, match="the name of an analyser must be"):
        name_of(wrong)


def test_a_frozen_mapping_does_not_follow_its_source_and_survives_copying() -> None:
    source = {"site": "mill"}
    kept: FrozenMapping[str] = frozen(source)
    source["site"] = "other"

    assert kept == {"site": "mill"}
    assert frozen(kept) is kept
    assert copy.deepcopy(kept) == pickle.loads(pickle.dumps(kept)) == kept
    assert hash(kept) == hash(FrozenMapping({"site": "mill"}))
    with pytest.raises(TypeError):
        kept["site"] = "x"  # type: ignore[index]
