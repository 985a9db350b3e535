"""Who may ask the server for what, as an attacker would try."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from servomex.errors import ServomexConfigurationError, ServomexConnectionError, ServomexValidationError
from servomex.views.web import WebServer
from servomex.views.web.hosts import Hosts, name_in
from servomex.views.web.token import Token
from tests.helpers.paths import ROOT
from tests.helpers.serving import TOKEN, ask, live_of, raw, reading, sample

READINGS = ("/events", "/api/state", "/api/frames", "/download.csv", "/metrics")
OTHERS = ("/", "/healthz", "/static/page.js")


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    live = live_of("a")
    live.take([sample("a", reading())])
    with WebServer(live, port=0) as running:
        yield running


@pytest.fixture(scope="module")
def guarded() -> Iterator[WebServer]:
    with WebServer(live_of("a"), port=0, token=Token(TOKEN)) as running:
        yield running


@pytest.mark.parametrize("path", [*READINGS, *OTHERS])
def test_each_address_is_answered_with_the_headers_that_protect_it(server: WebServer, path: str) -> None:
    answer = ask(server, path)
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; frame-ancestors 'none'")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "server" not in answer.headers


@pytest.mark.parametrize("host", [
    "evil.test", "evil.test:8080", "localhost.evil.test", "127.0.0.1.evil.test", "", "127.0.0.1@evil.test", "[::1",
    "127.0.0.2", "0.0.0.0", "192.168.1.1", "localhost:80x", "localhost/", "2130706433",
])  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/events", "/static/page.js"])
def test_a_name_that_is_not_of_this_computer_is_refused(server: WebServer, host: str, path: str) -> None:
    assert ask(server, path, headers={"Host": host}).status == 400


def test_the_names_of_this_computer_are_allowed_through_any_tunnel(server: WebServer) -> None:
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:8080", "[::1]", "localhost."):
        assert ask(server, "/api/state", headers={"Host": host}).status == 200


def test_a_request_without_a_name_or_with_two_is_refused(server: WebServer) -> None:
    assert b" 400 " in raw(server, b"GET / HTTP/1.0\r\n\r\n")
    assert b" 400 " in raw(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "CONNECT"])
def test_nothing_can_be_sent(server: WebServer, method: str) -> None:
    for path in ("/", "/api/state", "/events", "/download.csv", "/login"):
        answer = ask(server, path, method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_request_with_a_body_is_refused(server: WebServer) -> None:
    assert ask(server, "/", body=b"x").status == 400
    chunked = b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert raw(server, chunked).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("path", [*READINGS, *OTHERS])
def test_head_shows_the_headers_only(server: WebServer, path: str) -> None:
    answer = ask(server, path, "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == ask(server, path).headers["content-type"]


@pytest.mark.parametrize(("site", "status"), [
    ("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200), ("else", 403),
])  # fmt: skip
def test_another_site_reads_nothing(server: WebServer, site: str, status: int) -> None:
    for path in READINGS:
        assert ask(server, path, headers={"Sec-Fetch-Site": site}).status == status


def test_a_link_on_another_site_may_lead_to_the_page(server: WebServer) -> None:
    assert ask(server, "/", headers={"Sec-Fetch-Site": "cross-site"}).status == 200


ESCAPES = """
/static/../app.py /static/%2e%2e/app.py /static/..%2fapp.py /static/%2e%2e%2f%2e%2e%2fboard.py /static//etc/passwd
/static/ /static /../../etc/passwd /static/page.js/ /static/page.js%00.txt /static/index.html%20 /static/uPlot.txt
/api/ /favicon.ico //evil.test/
"""


def test_no_path_leads_out_of_the_page(server: WebServer) -> None:
    for path in ESCAPES.split():
        assert ask(server, path).status == 404, path


def test_long_addresses_and_headers_are_refused(server: WebServer) -> None:
    assert ask(server, "/?" + "x" * 3000).status == 414
    assert ask(server, "/", headers={"X-Long": "x" * 20_000}).status == 431
    assert b" 400 " in raw(server, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000)


def test_what_is_not_http_is_refused_without_a_trace(server: WebServer, capfd: pytest.CaptureFixture[str]) -> None:
    assert b" 400 " in raw(server, b"\x16\x03\x01\x02\x00\x01\x00 hello\r\n\r\n")
    assert ask(server, "/healthz").text == "ok\n"
    assert capfd.readouterr() == ("", "")


def test_the_page_has_no_script_and_no_style_within(server: WebServer) -> None:
    page = ask(server, "/").text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son\w+=|javascript:", page)
    for name in re.findall(r'(?:src|href)="(static/[^"]+)"', page):
        assert ask(server, f"/{name}").status == 200, name
    unsafe = re.compile(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function|srcdoc")
    names = [path.name for path in (ROOT / "servomex/views/web/static").glob("*.js")]
    assert "page.js" in names
    for name in names:
        assert not unsafe.search(ask(server, f"/static/{name}").text), name


def test_files_of_the_page_are_not_sent_twice(server: WebServer) -> None:
    tag = ask(server, "/static/page.js").headers["etag"]
    again = ask(server, "/static/page.js", headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")


class TestToken:
    @pytest.mark.parametrize("path", READINGS)
    def test_without_it_there_are_no_readings(self, guarded: WebServer, path: str) -> None:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"},
                        {"Cookie": f"servomex={TOKEN}"}, {"Cookie": "servomex="}):  # fmt: skip
            answer = ask(guarded, path, headers=headers)
            assert answer.status == 401
            assert b"a" not in answer.body.replace(b"A token is needed.\n", b"")
        assert ask(guarded, f"{path}?token={TOKEN}").status == 401

    def test_programs_show_it_as_bearer(self, guarded: WebServer) -> None:
        for path in READINGS:
            assert ask(guarded, path, headers={"Authorization": f"Bearer {TOKEN}"}).status == 200

    def test_a_browser_logs_in_and_gets_a_cookie_that_does_not_contain_it(self, guarded: WebServer) -> None:
        assert ask(guarded, "/login").status == 401
        answer = ask(guarded, "/login", headers={"Authorization": f"Bearer {TOKEN}"})
        cookie, *attributes = answer.headers["set-cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} < set(attributes)
        assert "Secure" not in attributes
        assert TOKEN not in cookie
        assert ask(guarded, "/api/state", headers={"Cookie": f"other=1; {cookie}"}).status == 200

    def test_behind_tls_the_cookie_is_for_tls_only(self, guarded: WebServer) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}", "X-Forwarded-Proto": "https"}
        assert ask(guarded, "/login", headers=headers).headers["set-cookie"].endswith("; Secure")

    def test_the_page_and_the_health_need_none(self, guarded: WebServer) -> None:
        for path in OTHERS:
            assert ask(guarded, path).status == 200

    def test_it_is_the_first_line_of_a_file_and_shows_in_no_error(self, tmp_path: Path) -> None:
        path = tmp_path / "token"
        path.write_text(f" {TOKEN} \nmore\n", encoding="utf-8")
        token = Token.from_file(path)
        assert token.is_in_header(f"Bearer {TOKEN}")
        assert TOKEN not in repr(token)
        for wrong in ("short-secret", "has spaces in it, and is long", "", "ünicode-is-not-sent-well"):
            path.write_text(wrong, encoding="utf-8")
            with pytest.raises(ServomexValidationError) as caught:
                Token.from_file(path)
            assert not wrong or wrong not in str(caught.value)
        with pytest.raises(ServomexConfigurationError, match="cannot be read"):
            Token.from_file(tmp_path / "none")


class TestAddress:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.test"])
    def test_other_computers_need_a_token(self, host: str) -> None:
        with pytest.raises(ServomexConfigurationError, match="no token"):
            WebServer(live_of(), host=host, port=0)

    def test_an_address_in_use_is_an_error_at_once(self, server: WebServer) -> None:
        with pytest.raises(ServomexConnectionError, match=f"port {server.port}"):
            WebServer(live_of(), port=server.port)

    def test_an_address_of_another_computer_is_an_error(self) -> None:
        with pytest.raises(ServomexConnectionError):
            WebServer(live_of(), host="192.0.2.1", port=0, token=Token(TOKEN))

    def test_all_addresses_are_asked_for_by_any_address_but_not_by_any_name(self) -> None:
        hosts = Hosts("0.0.0.0", ["plant.example"])
        assert all(
            map(hosts.allow, ["10.0.0.1:8080", "[fe80::1]", "plant.example", "Plant.Example.:443", "localhost"])
        )
        assert not any(map(hosts.allow, ["evil.test", "10.0.0.1.evil.test", ""]))

    def test_a_further_name_is_a_name(self) -> None:
        with pytest.raises(ServomexValidationError):
            Hosts("127.0.0.1", ["https://plant.example"])
        assert name_in("[::1]x") is None
