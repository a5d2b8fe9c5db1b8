"""The outermost door of an HTTP service: whom it answers, whence, and how much it reads. Before any key is looked at."""

from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.problems import Problem, problem_response

_WITH_BODY = ("POST", "PUT", "PATCH")


class Guard:
    """ASGI middleware that refuses foreign hosts, browsers' cross-site requests, bodies that are not JSON, and long ones."""

    def __init__(self, app: ASGIApp, allowed_hosts: Iterable[str], max_body_bytes: int) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in allowed_hosts)
        self._max_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = refusal(scope["method"], Headers(scope=scope), self._hosts, self._max_bytes)
        if problem:
            await problem_response(problem)(scope, receive, send)
            return
        await _Capped(receive, send, self._max_bytes).run(self._app, scope)


def refusal(method: str, headers: Headers, hosts: frozenset[str], max_bytes: int) -> Problem | None:
    """Why a request is refused by its headers alone, or None."""
    host = headers.getlist("host")
    if len(host) != 1 or hostname(host[0]) not in hosts:
        return Problem(400, "Unknown host", "Send to a host name that the setting allowed_hosts of this service lists.")
    if _is_cross_site(headers, host[0]):
        return Problem(403, "Cross-site request refused", "Call this API from a server, not from a page of another site.")
    if method in _WITH_BODY and _media_type(headers) != "application/json":
        return Problem(415, "Not JSON", "Send a JSON body with the header Content-Type: application/json.")
    if int(headers.get("content-length", "0")) > max_bytes:
        return _too_large(max_bytes)
    return None


def hostname(host: str) -> str:
    """A Host header's name without its port, lower case: `[::1]:8401` is `[::1]`."""
    name, colon, port = host.rpartition(":")
    return (name if colon and not port.endswith("]") else host).lower()


def _is_cross_site(headers: Headers, host: str) -> bool:
    # Sec-Fetch-Site cannot be set by a page; Origin covers browsers that do not send it.
    origins: Sequence[str] = headers.getlist("origin")
    foreign = any(urlsplit(origin).netloc.lower() != host.lower() for origin in origins)
    return foreign or headers.get("sec-fetch-site", "none") not in ("none", "same-origin")


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _too_large(max_bytes: int) -> Problem:
    # Closed, or the server would go on reading what it has refused.
    detail = f"Send at most {max_bytes} bytes in one request; split a batch."
    return Problem(413, "Body too large", detail, {"Connection": "close"})


class _BodyTooLarge(Exception):
    """More body came than is read."""


class _Capped:
    """One request whose body is counted as it comes: a chunked one states no length."""

    def __init__(self, receive: Receive, send: Send, max_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._started = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self.receive, self.send)
        except _BodyTooLarge:
            if self._started:
                raise
        if self._left < 0 and not self._started:
            await problem_response(_too_large(self._max_bytes))(scope, self._receive, self._send)

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _BodyTooLarge
        return message

    async def send(self, message: Message) -> None:
        if self._left < 0 and not self._started:
            return  # the app made an error of its own out of _BodyTooLarge: ours is the true one
        self._started = True
        await self._send(message)
