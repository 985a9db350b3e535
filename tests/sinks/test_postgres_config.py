"""Where a table of PostgreSQL is, in a URL or in arguments; a password is shown nowhere."""

import itertools
import traceback
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servomex.errors import ServomexSinkDependencyError, ServomexSinkWriteError, ServomexValidationError
from servomex.errors.excerpts import without_password
from servomex.sinks.postgres import PostgresSink
from servomex.sinks.postgres_config import PostgresConfig
from servomex.sinks.postgres_rows import text_with_nul, text_without_nul

SECRET = "correct horse%@battery/staple?&="


class TestUrl:
    def test_it_says_all_that_there_is(self) -> None:
        config = PostgresConfig.from_url(
            "postgres://logger:pw@db1:5433/plant?table=Stack_1&sslmode=require&schema=lab&use_copy=0&create_table=no"
            "&statement_timeout_ms=500&command_timeout_s=2.5"
        )
        assert config.parameters() == {
            "user": "logger", "password": "pw", "host": "db1", "port": "5433", "dbname": "plant",
            "sslmode": "require",
        }  # fmt: skip
        assert (config.schema, config.table, config.use_copy, config.create_table) == (
            "lab",
            "Stack_1",
            False,
            False,
        )
        assert (config.statement_timeout_ms, config.command_timeout_s) == (500, 2.5)
        assert config.target() == "db1:5433/plant.lab.Stack_1"

    @pytest.mark.parametrize(
        ("url", "target"),
        [
            ("postgresql://db1/plant", "db1:5432/plant.public.samples"),
            ("POSTGRESQL://logger@db1", "db1:5432/logger.public.samples"),
            ("postgresql:///plant?host=/run/postgresql", "/run/postgresql:5432/plant.public.samples"),
            ("postgresql://[::1]:5433/plant", "::1:5433/plant.public.samples"),
            ("postgresql://db1,db2/plant", "db1,db2:5432/plant.public.samples"),
            ("postgresql://?service=plant", "service plant.public.samples"),
            ("postgresql://", "local:5432/default.public.samples"),
        ],
    )
    def test_what_is_omitted_is_as_libpq_takes_it(
        self, url: str, target: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE"):
            monkeypatch.delenv(name, raising=False)
        assert PostgresConfig.from_url(url).target() == target

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("mysql://u:pw@h/db", "'mysql://u:***@h/db' is not the URL of a PostgreSQL server"),
            ("postgresql://h/db?tabel=x", 'invalid URI query parameter: "tabel"'),
            ("postgresql://h/db?table=a-b", "the table must be a word of up to 54 letters"),
            ("postgresql://h/db?table=a&table=b", "table is given twice"),
            ("postgresql://h/db?schema=1a", "the schema must be a word of up to 63 letters"),
            ("postgresql://h/db?use_copy=maybe", "use_copy must be 1 or 0, not 'maybe'"),
            ("postgresql://h/db?statement_timeout_ms=-1", "statement_timeout_ms must be a whole number, not '-1'"),
            (
                "postgresql://h/db?command_timeout_s=nan",
                "command_timeout_s must be a number of seconds, not 'nan'",
            ),
            ("postgresql://h/db?command_timeout_s=0", "command_timeout_s must be more than 0 seconds"),
            ("postgresql://u:a/zzb@h/db", "'postgresql://u:***@h/db' has an @ in the wrong place"),
            ("postgresql://u:a?zzb@h/db", "Percent-encode user and password"),
            ("postgresql://u:a@zzb/c@h/db", "Percent-encode user and password"),
            ("postgresql://u:a@zzb@h/db", "Percent-encode user and password"),
            ("postgresql://u:a%zzb@h/db", "its password has characters that must be percent-encoded"),
        ],
    )
    def test_what_is_wrong_with_it_is_said(self, url: str, words: str) -> None:
        with pytest.raises(ServomexValidationError) as caught:
            PostgresConfig.from_url(url)
        assert words in str(caught.value)
        assert "pw" not in str(caught.value)
        assert "zzb" not in _everything(caught.value)


class TestConfig:
    def test_the_defaults_are_those_of_libpq_and_of_files(self) -> None:
        config = PostgresConfig()
        assert (config.port, config.schema, config.table, config.create_table, config.use_copy) == (
            5432, "public", "samples", True, True,
        )  # fmt: skip
        assert config.parameters() == {"port": "5432"}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"dsn": "host=a", "host": "b"},
            {"dsn": "host=a", "user": "b"},
            {"dsn": "host=a", "database": "b"},
            {"dsn": "host=a", "port": 5433},
            {"dsn": "host"},
            {"dsn": "host=a password=b c"},
            {"password": "a", "password_file": "b"},
            {"port": 0},
            {"port": True},
            {"port": "5432"},
            {"statement_timeout_ms": -1},
            {"statement_timeout_ms": 2**31},
            {"command_timeout_s": 0},
            {"table": "a b"},
            {"table": ""},
            {"table": "x" * 55},
            {"table": None},
            {"schema": 'a"; DROP TABLE b; --'},
            {"schema": "x" * 64},
        ],
    )
    def test_what_cannot_be_is_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ServomexValidationError):
            PostgresConfig(**wrong)

    def test_it_cannot_be_changed(self) -> None:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            PostgresConfig().table = "x"  # type: ignore[misc]

    def test_a_password_is_read_from_the_first_line_of_a_file_each_time(self, tmp_path: Path) -> None:
        path = tmp_path / "pw"
        config = PostgresConfig(dsn="postgresql://u:other@h/db", password_file=path)
        with pytest.raises(ServomexSinkWriteError, match="cannot be read: No such file"):
            config.parameters()
        for secret in (SECRET, "new"):
            path.write_text(f"{secret}\r\nrest\n", encoding="utf-8")
            assert config.parameters()["password"] == secret

    def test_without_psycopg_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
        for attempt in (
            lambda: PostgresConfig(dsn="host=a"),
            lambda: PostgresSink("postgresql://h/db"),
            lambda: PostgresSink(PostgresConfig(host="h")),
            lambda: PostgresSink.read("postgresql://h/db"),
            lambda: PostgresSink.check_url("postgresql://h/db"),
        ):
            with pytest.raises(ServomexSinkDependencyError, match=r'pip install "servomex\[postgres\]"'):
                attempt()


def _everything(error: BaseException | None) -> str:
    """Return all that can be shown of an error and of those that it is from."""
    if error is None:
        return ""
    shown = f"{error} {error!r} {''.join(traceback.format_exception(error))} {getattr(error, '__notes__', '')}"
    return shown + _everything(error.__cause__) + _everything(error.__context__)


class TestPassword:
    def test_it_is_in_no_text_of_a_config(self) -> None:
        for config in (
            PostgresConfig(host="h", password=SECRET),
            PostgresConfig(dsn=f"host=h password='{SECRET}'"),
            PostgresConfig.from_url("postgresql://u:sesame@h/db?sslpassword=sesame"),
        ):
            for text in (repr(config), str(config), config.target(), f"{config}"):
                assert SECRET not in text
                assert "sesame" not in text

    @pytest.mark.parametrize(
        "text",
        [
            "postgresql://u:{}@h:5432/db?table=x",
            "postgresql://u:{}@h/db",
            "postgresql://u:a@{}@h/db",
            "postgresql://u:a:{}@h/db",
            "postgresql://h/db?password={}",
            "postgresql://h/db?user=a&Password={}&x=1",
            "postgresql://h/db?sslpassword={}",
            "host=a password={} user=b",
            "host=a password = '{} x\\' y' user=b",
            "host=a password='{} x",
        ],
    )
    def test_it_is_hidden_wherever_it_can_stand(self, text: str) -> None:
        for secret in ("sesame", "ses/ame", "ses?ame", "se@same", "ses#ame", "%73esame"):
            shown = without_password(text.format(secret))
            assert "***" in shown
            assert not any(part in shown for part in ("same", "ame"))

    def test_what_has_none_is_shown_as_it_is(self) -> None:
        for text in (
            "postgresql://u@h:5432/db?table=x",
            "postgresql:///db",
            "run.csv",
            "C:\\data\\run.csv",
            "host=a",
        ):
            assert without_password(text) == text

    @given(secret=st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=4))
    def test_no_password_breaks_out(self, secret: str) -> None:
        shown = without_password(f"postgresql://user:<<{secret}>>@host/db")
        assert ">>" not in shown
        assert "<<" not in shown


@given(text=st.text(st.sampled_from("\0'\\x05c3ab"), max_size=12))
def test_a_text_without_nul_stands_for_exactly_one_text(text: str) -> None:
    assert "\0" not in text_without_nul(text)
    assert text_with_nul(text_without_nul(text)) == text


def test_only_texts_with_nul_are_changed_and_those_that_look_so() -> None:
    kept = ["", "Oxygen", "it's", "a\\b", "\\x00", "'", "C:\\x"]
    assert list(map(text_without_nul, kept)) == kept
    pairs = itertools.combinations(
        [text_without_nul(text) for text in ("\0", "'\\x00", "'\\", "\\x00", "'\\x5c")], 2
    )
    assert all(one != other for one, other in pairs)
