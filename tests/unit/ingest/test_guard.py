import asyncio
from collections.abc import Iterable

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from ingest.guard import Guard, hostname, refusal

HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
JSON = {"Host": "localhost:8401", "Content-Type": "application/json"}


def status(method: str, headers: dict[str, str]) -> int | None:
    problem = refusal(method, Headers(headers), HOSTS, max_bytes=10)
    return problem.status if problem else None


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "LOCALHOST:8401", "127.0.0.1:8401", "[::1]", "[::1]:8401"])
def test_a_known_host_is_answered_on_any_port(host: str) -> None:
    assert status("GET", {"Host": host}) is None


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "::1", "", "localhost@evil.example"])
def test_a_name_that_was_rebound_to_this_machine_is_refused(host: str) -> None:
    assert status("GET", {"Host": host}) == 400


def test_a_request_without_a_host_is_refused() -> None:
    assert status("GET", {}) == 400


def test_an_ipv6_host_keeps_its_brackets() -> None:
    assert hostname("[FE80::1]:80") == "[fe80::1]"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_is_refused(headers: dict[str, str]) -> None:
    assert status("POST", {**JSON, **headers}) == 403


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "http://localhost:8401", "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
)
def test_servers_and_our_own_pages_are_answered(headers: dict[str, str]) -> None:
    assert status("POST", {**JSON, **headers}) is None


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", ""]
)
def test_a_body_that_a_form_could_send_is_refused(kind: str) -> None:
    assert status("POST", {**JSON, "Content-Type": kind}) == 415


def test_json_with_a_charset_is_json() -> None:
    assert status("POST", {**JSON, "Content-Type": "Application/JSON; charset=utf-8"}) is None


def test_a_body_that_says_it_is_too_long_is_refused_unread() -> None:
    assert status("POST", {**JSON, "Content-Length": "11"}) == 413
    assert status("POST", {**JSON, "Content-Length": "10"}) is None


async def _length(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        text = str(len(await Request(scope, receive).body()))
    except Exception:  # noqa: BLE001  # as FastAPI does around bodies that it parses
        text = "the body cannot be read"
    await PlainTextResponse(text)(scope, receive, send)


def post(chunks: Iterable[bytes]) -> httpx.Response:
    async def body() -> object:
        for chunk in chunks:
            yield chunk

    async def run() -> httpx.Response:
        guard = Guard(_length, allowed_hosts=HOSTS, max_body_bytes=10)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://localhost") as client:
            return await client.post("/", content=body(), headers={"Content-Type": "application/json"})

    return asyncio.run(run())


def test_a_chunked_body_is_counted_as_it_comes() -> None:
    assert post([b"12345", b"67890"]).text == "10"
    assert post([b"12345", b"67890", b"1"]).status_code == 413


def test_the_guards_answer_stands_whatever_the_app_makes_of_the_broken_body() -> None:
    answer = post([b"x" * 11])
    assert answer.headers["content-type"] == "application/problem+json"
    assert "10 bytes" in answer.json()["detail"]


def test_an_app_that_answers_before_it_reads_is_left_alone() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=204)(scope, receive, send)

    async def run() -> int:
        guard = Guard(app, allowed_hosts=HOSTS, max_body_bytes=10)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://localhost") as client:
            return (await client.get("/")).status_code

    assert asyncio.run(run()) == 204
