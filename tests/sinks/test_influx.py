"""Lines of InfluxDB, and what becomes of them when a server answers this or that; tests/servers has a real one."""

import gzip
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import attrs
import pytest
from hypothesis import given

from servomex.errors import ServomexSinkSchemaError, ServomexSinkWriteError, ServomexValidationError
from servomex.errors.mappings import FrozenMapping
from servomex.models.sample import Sample
from servomex.rows.formats import PLAIN
from servomex.rows.influx import influx_line
from servomex.sinks import InfluxConfig, InfluxSink
from servomex.sinks.influx_http import LONGEST_PAUSE_S, _pause_s
from tests.helpers.any_samples import samples
from tests.helpers.recordings import batch

_LINE = re.compile(
    r"servomex(?P<tags>(?:,[A-Za-z][\w.-]*=(?:\\.|[^\\,= ])+)+) "
    r'(?P<fields>\w+=(?:"(?:\\.|[^"\\])*"|[^", ]+)(?:,\w+=(?:"(?:\\.|[^"\\])*"|[^", ]+))*) (?P<time>-?\d+)\n',
    re.DOTALL,
)


class TestLines:
    @given(samples())
    def test_every_sample_is_one_valid_line(self, sample: Sample) -> None:
        (row,) = PLAIN.rows([sample])
        line = influx_line(row)
        found = _LINE.fullmatch(line)
        assert found, line
        assert "\n" not in line[:-1]
        fields = re.findall(r'(?:^|,)(\w+)=("(?:\\.|[^"\\])*"|[^",]+)', found["fields"])
        known = dict(fields)
        assert len(known) == len(fields)
        if sample.reading is None or sample.error is not None:
            assert known["failed"] == "1i"
            assert "value" not in known
            return
        value = sample.reading.value
        assert known.get("value") == (None if value is None else repr(float(value)))
        assert known["quality_code"] == {"bad": "0i", "uncertain": "1i", "good": "2i"}[known["quality"].strip('"')]
        assert int(found["time"]) % 1000 == 0


Answerer = Callable[[str], tuple[int, dict[str, str], str]]


class Server:
    """A server that answers lines as a test wants it, and keeps those that it took."""

    def __init__(self) -> None:
        self.closes = False
        self.lines: list[str] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.answer: Answerer = lambda _lines: (204, {}, "")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 2.0

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                outer.requests.append((self.path, dict(self.headers)))
                status, headers, text = outer.answer(body.decode())
                if status == 204:
                    outer.lines += body.decode().splitlines()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())
                self.close_connection = outer.closes

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        """Its URL."""
        return f"influx+http://127.0.0.1:{self._server.server_port}/write?db=plant"

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that takes all lines."""
    found = Server()
    yield found
    found.close()


def refusing(*texts: str, status: int = 400) -> Answerer:
    """Refuse every request with a line that has one of these texts."""

    def answer(lines: str) -> tuple[int, dict[str, str], str]:
        bad = [text for text in texts if text in lines]
        return (status, {}, f'{{"error": "unable to parse {bad[0]}"}}') if bad else (204, {}, "")

    return answer


class TestAnswers:
    @pytest.mark.parametrize("status", [400, 413, 422])
    def test_the_rows_that_it_refuses_are_found_and_the_others_are_there(
        self, server: Server, status: int
    ) -> None:
        sink = InfluxSink(server.url)
        server.answer = refusing("channel=I3", "channel=E2", status=status)
        sink.write(batch(0))
        sink.flush()
        assert (sink.rows, sink.refused, sink.unstored) == (5, 2, 0)
        with pytest.raises(ServomexSinkSchemaError, match=r"did not accept 2 rows"):
            sink.close()
        assert sorted(re.findall(r"channel=(\w+)", "".join(server.lines))) == ["E1", "I1", "I2"]

    def test_a_batch_that_is_refused_whole_waits_when_the_database_takes_nothing(self, server: Server) -> None:
        sink = InfluxSink(server.url, flush_s=0)
        server.answer = lambda _lines: (400, {}, '{"error": "database is required"}')
        with pytest.raises(ServomexSinkWriteError, match=r"HTTP 400: database is required"):
            sink.write(batch(0))
        server.answer = lambda _lines: (204, {}, "")
        sink.write(batch(0))
        sink.close()
        assert (sink.rows, sink.refused, len(server.lines)) == (5, 0, 5)

    @pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 503, 301])
    def test_what_is_not_of_a_row_may_succeed_later(self, server: Server, status: int) -> None:
        sink = InfluxSink(server.url, flush_s=0)
        server.answer = lambda _lines: (status, {"Location": "http://x/"} if status == 301 else {}, "no")
        with pytest.raises(ServomexSinkWriteError, match=rf"HTTP {status}: no") as caught:
            sink.write(batch(0))
        assert caught.value.cure
        server.answer = lambda _lines: (204, {}, "")
        sink.write(batch(0))
        sink.close()
        assert (sink.rows, len(server.lines)) == (5, 5)

    def test_it_is_not_asked_again_before_the_time_that_it_names(self, server: Server) -> None:
        sink = InfluxSink(server.url, flush_s=0)
        server.answer = lambda _lines: (429, {"Retry-After": "1"}, "slower")
        for _ in range(3):
            with pytest.raises(ServomexSinkWriteError, match=r"HTTP 429: slower"):
                sink.write(batch(0))
        assert len(server.requests) == 2  # with the check
        server.answer = lambda _lines: (204, {}, "")
        time.sleep(1.05)
        sink.write(batch(0))
        sink.close()
        assert sink.rows == 5

    @pytest.mark.parametrize(
        ("given", "low", "high"),
        [
            ("3", 3, 3), ("0", 0, 0), ("86400", LONGEST_PAUSE_S, LONGEST_PAUSE_S), ("-1", None, None),
            ("soon", None, None),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
            ("Wed, 21 Oct 2099 07:28:00 GMT", LONGEST_PAUSE_S, LONGEST_PAUSE_S),
        ],
    )  # fmt: skip
    def test_the_time_is_taken_within_reason(self, given: str, low: float | None, high: float | None) -> None:
        assert _pause_s(given) in (low, high)

    def test_an_idle_connection_that_was_closed_is_opened_again(self, server: Server) -> None:
        with InfluxSink(server.url, flush_s=0) as sink:
            server.closes = True
            for number in range(3):
                sink.write(batch(number))
                time.sleep(0.05)
        assert len(server.lines) == 15

    def test_a_server_that_is_silent_is_given_up(self, server: Server) -> None:
        sink = InfluxSink(f"{server.url}&timeout_s=0.3", flush_s=0)
        over = threading.Event()

        def late(_lines: str) -> tuple[int, dict[str, str], str]:
            over.wait(5)
            return 204, {}, ""

        server.answer = late
        begun = time.monotonic()
        with pytest.raises(ServomexSinkWriteError, match=r"did not answer within 0.3 s"):
            sink.write(batch(0))
        assert time.monotonic() - begun < 3
        over.set()
        server.answer = lambda _lines: (204, {}, "")
        sink.write(batch(0))
        sink.close()

    def test_an_answer_does_not_show_a_secret_that_it_repeats(self, server: Server) -> None:
        server.answer = lambda _lines: (401, {}, '{"message": "no token secret-token"}')
        config = attrs.evolve(InfluxConfig.from_url(server.url), token="secret-token")
        with pytest.raises(ServomexSinkWriteError, match=r"no token [*]{3}") as caught:
            InfluxSink(config)
        assert "secret-token" not in f"{caught.value!s} {config!r}"


class TestRequests:
    @pytest.mark.parametrize(
        ("query", "path", "who"),
        [
            ("/?db=p", "/write?db=p&precision=ns", None),
            ("?org=a%20b&bucket=c", "/api/v2/write?org=a%20b&bucket=c&precision=ns", "Token tok"),
            ("/api/v3/write_lp?db=p", "/api/v3/write_lp?db=p", "Bearer tok"),
        ],
    )
    def test_versions(
        self, query: str, path: str, who: str | None, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if who:
            monkeypatch.setenv("INFLUX_TOKEN", "tok")
        with InfluxSink(server.url.partition("/write")[0] + query, flush_s=0) as sink:
            sink.write(batch(0))
        (first, _), (last, headers) = server.requests[0], server.requests[-1]
        assert (first, last, headers.get("Authorization")) == (path, path, who)
        assert headers["Content-Encoding"] == "gzip"

    def test_a_token_comes_from_a_file(self, server: Server, tmp_path: Any) -> None:
        for name in ("token_file", "password_file"):
            (tmp_path / "t").write_text("my-token\n")
            InfluxSink(f"{server.url}&{name}={tmp_path}/t").close()
            assert server.requests[-1][1]["Authorization"] == "Token my-token"
        (tmp_path / "t").write_text("my token")
        with pytest.raises(ServomexSinkWriteError, match=r"the token has a space"):
            InfluxSink(f"{server.url}&token_file={tmp_path}/t")

    def test_version_2_wants_a_line_even_for_a_check(self, server: Server) -> None:
        server.answer = lambda lines: (
            (204, {}, "") if lines else (400, {}, '{"message": "writing requires points"}')
        )
        with InfluxSink(server.url.replace("/write?db=plant", "/api/v2/write?org=a&bucket=b"), flush_s=0) as sink:
            sink.write(batch(0))
        assert sink.rows == 5


class TestUrls:
    def test_all_parts(self) -> None:
        url = "influx+https://me:p%40ss@h:9/write?db=a&rp=b&ca=/x&gzip=0&timeout_s=2"
        assert InfluxConfig.from_url(url) == InfluxConfig(
            "h", 9, "/write", FrozenMapping({"db": "a", "rp": "b"}), "me", "p@ss", tls=True, ca="/x", gzip=False,
            timeout_s=2.0,
        )  # fmt: skip
        assert "p@ss" not in repr(InfluxConfig.from_url(url))
        assert InfluxSink.place_of(url) == "influx+https://h:9/write (a/b)"

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("influx+http://", "no valid host and port"),
            ("influx+http://me:se/cret@h/write", "@ in the wrong place"),
            ("influx+http://h/write?token=secret", "token= in an? influx[+]http:// URL would be seen by others"),
            ("influx+http://h/write?u=a&p=secret", "p= in an? influx"),
            ("influx+http://me:secret@h/write?precision=s", "times are sent in nanoseconds"),
            ("influx+http://me:secret@h/write?token_file=x", "a password and a token_file"),
            ("influx+http://me@h/write?token_file=x", "a user and a token"),
            ("influx+http://me:secret@h/write?ca=x", "ca is for influx[+]https"),
            ("influx+http://me:secret@h/write?gzip=x", "gzip must be 1 or 0"),
        ],
    )
    def test_mistakes_are_named_without_the_password(self, url: str, words: str) -> None:
        with pytest.raises(ServomexValidationError, match=words) as caught:
            InfluxConfig.from_url(url)
        assert "secret" not in str(caught.value)

    def test_a_table_and_replacing_are_refused(self) -> None:
        with pytest.raises(ServomexValidationError, match=r"not to a table"):
            InfluxSink.check_url("influx+http://h", table="x")
        with pytest.raises(ServomexValidationError, match=r"always added"):
            InfluxSink("influx+http://h", append=False)
