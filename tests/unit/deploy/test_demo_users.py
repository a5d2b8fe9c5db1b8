"""What the simulated people send, through the real clients, over a transport that answers from a script."""

import asyncio
import itertools
import json
import random
import uuid
from collections.abc import Iterator

import httpx
import httpx2
import pytest
from openai import AsyncOpenAI

from deploy.demo.app import App, NoAnswer
from deploy.demo.users import SLIP, Visit, choose, edit, regenerate
from ingest.events import Event, event_adapter

PROMPT = "In at most 8 words, describe rivers."
GOOD, LONG, BAD = "Rivers carry fresh water.", "Rivers carry a lot of fresh water and are wide.", "Hello!"


class Sure(random.Random):
    """People who do not slip and do not stream."""

    def random(self) -> float:
        return (1 + SLIP) / 2


class Service:
    """Answers with the scripted replies in turn, and keeps the feedback."""

    def __init__(self, *answers: list[str], feedback_statuses: Iterator[int] = itertools.repeat(202)) -> None:  # noqa: B008 (endless)
        self.events: list[Event] = []
        self._answers = iter(answers)
        self._statuses = feedback_statuses

    def chat(self, request: httpx2.Request) -> httpx2.Response:
        texts = next(self._answers, None)
        if texts is None:
            return httpx2.Response(503, headers={"Retry-After": "0"}, json={"error": {"message": "not now"}})
        asked = json.loads(request.content)
        headers = {"X-Whetstone-Adapter": "base"}
        if asked.get("stream"):
            return httpx2.Response(200, headers={**headers, "Content-Type": "text/event-stream"}, content=_stream(texts[0]))
        assert asked["n"] == len(texts)
        choices = [
            {"index": i, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            for i, text in enumerate(texts)
        ]
        return httpx2.Response(200, headers=headers, json=_completion("chat.completion", choices))

    def feedback(self, request: httpx.Request) -> httpx.Response:
        self.events.append(event_adapter.validate_json(request.content))
        return httpx.Response(next(self._statuses), headers={"Retry-After": "0"})


def _completion(kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
    return {"id": f"gen-{uuid.uuid4()}", "object": kind, "created": 0, "model": "summarise-short", "choices": choices}


def _stream(text: str) -> bytes:
    ends = [(word + " ", None) for word in text.split()] + [("", "stop")]
    chunks = [_completion("chat.completion.chunk", [{"index": 0, "finish_reason": f, "delta": {"content": c}}]) for c, f in ends]
    return b"".join(b"data: " + json.dumps({**chunk, "id": "gen-s"}).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


async def _visit(visit: Visit, service: Service, stream_share: float = 0.0) -> None:
    async with (
        httpx2.AsyncClient(transport=httpx2.MockTransport(service.chat)) as chat,
        AsyncOpenAI(base_url="http://gateway/v1", api_key="k", max_retries=0, http_client=chat) as client,
        httpx.AsyncClient(base_url="http://ingest", transport=httpx.MockTransport(service.feedback)) as http,
    ):
        await visit(App(client, http, "summarise-short", stream_share), "user-1", PROMPT, Sure())


def events_of(visit: Visit, service: Service, stream_share: float = 0.0) -> list[Event]:
    asyncio.run(_visit(visit, service, stream_share))
    return service.events


def test_a_chooser_shows_all_candidates_and_picks_the_good_one() -> None:
    (event,) = events_of(choose, Service([BAD, GOOD, LONG]))
    assert event.type == "choice"
    assert len(event.shown) == 3
    assert event.picked == event.shown[1]


def test_a_chooser_says_that_none_is_good() -> None:
    (event,) = events_of(choose, Service([BAD, LONG, LONG]))
    assert event.type == "choice"
    assert event.picked == "none"


def test_a_regenerator_throws_replies_away_until_one_is_good_and_accepts_it() -> None:
    events = events_of(regenerate, Service([BAD], [LONG], [GOOD]))
    assert [event.type for event in events] == ["regeneration", "regeneration", "acceptance"]


def test_a_regenerator_gives_up_without_accepting() -> None:
    events = events_of(regenerate, Service([BAD], [BAD], [BAD], [LONG]))
    assert [event.type for event in events] == ["regeneration"] * 3


def test_an_editor_saves_a_long_draft_within_its_limit() -> None:
    (event,) = events_of(edit, Service([LONG]))
    assert event.type == "edit"
    assert event.saved == "Rivers carry a lot of fresh water."


def test_an_editor_accepts_a_good_draft_and_leaves_a_useless_one_alone() -> None:
    assert [event.type for event in events_of(edit, Service([GOOD]))] == ["acceptance"]
    assert events_of(edit, Service([BAD])) == []


def test_a_streamed_reply_is_judged_by_its_whole_text() -> None:
    (event,) = events_of(edit, Service([LONG]), stream_share=1.0)
    assert event.type == "edit"
    assert event.reply.generation_id == "gen-s"


def test_feedback_that_was_not_accepted_is_sent_again_under_the_same_id() -> None:
    first, second = events_of(edit, Service([GOOD], feedback_statuses=iter([503, 202])))
    assert first == second


def test_a_failed_request_ends_the_visit_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NoAnswer):
        events_of(edit, Service())
    told = json.loads(capsys.readouterr().out)
    assert (told["what"], told["status"]) == ("failed", 503)
