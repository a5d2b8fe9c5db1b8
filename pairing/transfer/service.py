"""The service over HTTP, on this machine or another: events in, pairs out."""

import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import httpx

from pairing.formats.strict import NotJson, decode
from pairing.formats.values import Reason, Refused, Row
from pairing.transfer import Stopped, TransferFailed

PATIENCE_S = 300.0
"""How long a service that does not answer, or takes or gives nothing, is asked again before a transfer gives up."""
_TIMEOUT = httpx.Timeout(60, connect=5)
_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
_AT_EVENT = re.compile(r"events\.(\d+)(?:\.|$)")
_ELSEWHERE = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
_TASK = r"[a-z0-9][a-z0-9-]{0,62}"  # as ingest.settings.TaskName
_SPLIT = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)


class Service:
    """Ingest's door, and an API key for it."""

    def __init__(self, url: str, key: str, patience_s: float = PATIENCE_S) -> None:
        self._client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=_TIMEOUT)
        self._url = url
        self._patience_s = patience_s
        self._stopping = threading.Event()

    def check(self) -> None:
        """Raises TransferFailed: nothing answers there."""
        try:
            self._client.get("/healthz")
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise TransferFailed(
                f"No service answers at {self._url} ({type(error).__name__}). Start it, or name it in WHETSTONE_URL."
            ) from None

    def send(self, events: Sequence[bytes]) -> dict[int, Refused]:
        """Send the events, given as JSON; returns those that the service will never take, by their place.

        Any thread may call it. When it returns, the event log has the others.

        Raises:
            TransferFailed: the service lets nobody in with this key, or did not answer for too long.
            Stopped: `stop` was called.
        """
        refused: dict[int, Refused] = {}
        left = list(range(len(events)))
        while left:
            answer = self._post([events[at] for at in left])
            if answer.status_code == HTTPStatus.ACCEPTED:
                break
            at_fault = _at_fault(answer)
            if not at_fault and len(left) > 1:  # the batch as a whole is too large for this service
                middle = len(left) // 2
                for half in (left[:middle], left[middle:]):
                    refused |= {half[at]: why for at, why in self.send([events[at] for at in half]).items()}
                break
            at_fault = at_fault or {0: _refused(answer, _detail(answer))}
            refused |= {left[at]: why for at, why in at_fault.items()}
            left = [at for place, at in enumerate(left) if place not in at_fault]
        return refused

    def pairs(self, asked: Mapping[str, str]) -> Iterator[Row]:
        """The rows that GET /v1/pairs gives.

        Raises:
            TransferFailed: it refuses, cannot answer for too long, or broke off.
            Stopped: `stop` was called while it could not answer.
        """
        deadline = time.monotonic() + self._patience_s
        try:
            while True:
                with self._client.stream("GET", "/v1/pairs", params=dict(asked)) as answer:
                    if answer.status_code == HTTPStatus.OK:
                        yield from map(decode, _lines(answer))
                        return
                    answer.read()
                if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                    raise TransferFailed(_sentence(answer))
                self._wait(max(_PAUSE_S, _retry_after_s(answer)))
        except NotJson as error:
            raise TransferFailed(f"{self._url} does not answer as Whetstone does, or broke off: {error} Run it again.") from None
        except httpx.TransportError as error:
            raise TransferFailed(f"{self._url} broke off ({type(error).__name__}). Run it again.") from None

    def stop(self) -> None:
        """End every wait, now."""
        self._stopping.set()

    def close(self) -> None:
        self._client.close()

    def _post(self, events: Sequence[bytes]) -> httpx.Response:
        """An answer that is final, for these events."""
        body = b'{"events":[%s]}' % b",".join(events)
        deadline, pause = time.monotonic() + self._patience_s, _PAUSE_S
        while True:
            self._wait(0)
            answer = self._try(body)
            if isinstance(answer, httpx.Response) and answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
                if answer.status_code == HTTPStatus.ACCEPTED or answer.status_code in _SPLIT:
                    return answer
                raise TransferFailed(_sentence(answer))
            if time.monotonic() > deadline:
                said = answer if isinstance(answer, str) else _sentence(answer)
                raise TransferFailed(f"{self._url} took nothing for {self._patience_s:.0f} s: {said}")
            self._wait(max(pause, _retry_after_s(answer)))
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _wait(self, pause_s: float) -> None:
        """Raises Stopped: `stop` was called before or meanwhile."""
        if self._stopping.wait(pause_s):
            raise Stopped

    def _try(self, body: bytes) -> httpx.Response | str:
        try:
            return self._client.post("/v1/feedback/batch", content=body, headers={"Content-Type": "application/json"})
        except httpx.TransportError as error:
            return f"no answer ({type(error).__name__})."


def service(task: str, scopes: Sequence[str]) -> Service:
    """The service that WHETSTONE_URL names, or the one of the settings, with the key in WHETSTONE_KEY.

    Raises:
        TransferFailed: there is no key, or what is there cannot be one; or no such task can be.
        WrongSetting: the settings are needed, and wrong.
    """
    if not re.fullmatch(_TASK, task):
        raise TransferFailed(f"{task} is no name of a task: lower-case letters, digits and hyphens.")
    key = os.environ.get("WHETSTONE_KEY")
    if not key:
        wanted = " ".join(f"--scope {scope}" for scope in scopes)
        raise TransferFailed(
            f"Put an API key into WHETSTONE_KEY: `whetstone keys create --name transfer {wanted} --task {task}` makes one."
        )
    url = os.environ.get("WHETSTONE_URL") or _of_settings()
    try:
        return Service(url, key)
    except (httpx.InvalidURL, UnicodeEncodeError):
        raise TransferFailed("WHETSTONE_URL is no http address, or WHETSTONE_KEY no key.") from None


def _of_settings() -> str:
    from ingest.settings import load_settings

    return load_settings().ingest_url


def _lines(answer: httpx.Response) -> Iterator[bytes]:
    """Lines end with a line feed only; httpx's own also ends them at what may stand raw inside strings."""
    rest = b""
    for chunk in answer.iter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest  # a line that nothing ended: what it says shows whether it is whole


def _at_fault(answer: httpx.Response) -> dict[int, Refused]:
    """The events that the answer names, by their place in the request."""
    found: dict[int, Refused] = {}
    for error in _problem(answer).get("errors", ()):
        if named := _AT_EVENT.match(str(error["field"])):
            field = str(error["field"])[named.end() :] or "event"
            found.setdefault(int(named[1]), _refused(answer, f"{field}: {error['message']}"))
    return found


def _refused(answer: httpx.Response, detail: str) -> Refused:
    too_large = answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return Refused(Reason.TOO_LONG if too_large else Reason.REFUSED_BY_SERVICE, detail)


def _problem(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _detail(answer: httpx.Response) -> str:
    problem = _problem(answer)
    return f"{problem.get('title', 'Refused')}. {problem.get('detail', '')}".strip()


def _sentence(answer: httpx.Response) -> str:
    if answer.status_code in _ELSEWHERE or not _problem(answer):
        where = answer.url.copy_with(query=None)
        return f"{where} answered {answer.status_code}: is this Whetstone's ingest? WHETSTONE_URL names it."
    wrong = (f"{error['field']}: {error['message']}" for error in _problem(answer).get("errors", ()))
    return " ".join((f"{answer.status_code} {_detail(answer)}", *wrong))


def _retry_after_s(answer: httpx.Response | str) -> float:
    said = "" if isinstance(answer, str) else answer.headers.get("retry-after", "")
    return min(float(said), _LONGEST_PAUSE_S) if said.isdigit() else 0.0
