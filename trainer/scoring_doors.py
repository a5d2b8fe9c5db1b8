"""The two doors that a run of criteria goes through, as any app does: the gateway for replies, the feedback API for scores."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import httpx
from openai import APIStatusError, AsyncOpenAI, OpenAIError

from ingest.events import ScoreEvent, canonical
from ingest.settings import Settings
from trainer.chat import asked, request_messages, said
from trainer.criteria import FreshReply
from trainer.errors import CannotScore
from trainer.scoring import RecentPrompt, Sampled

_ATTEMPTS = 8
"""At the gateway, with the client's growing pauses: some half a minute."""
_PAUSES_S = (0.2, 0.5, 1, 2, 4, 8, 8, 8)
"""Between attempts to send scores."""
_SEND_TIMEOUT_S = 30
_KEY_IS_WRONG = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_PROMPT_IS_WRONG = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)
_ONE_KEY = (
    "The key in WHETSTONE_KEY, or else trainer.criteria_key, which `make setup` makes, needs the scopes inference and criterion"
)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How candidates are drawn."""

    candidates: int
    temperature: float
    max_tokens: int


class Sampler:
    """Asks the gateway for candidates. They are recorded like every reply, and so can become pairs."""

    def __init__(self, settings: Settings, task: str, key: str, sampling: Sampling) -> None:
        self._task = task
        self._url = settings.gateway_url
        self._sampling = sampling
        self._client = AsyncOpenAI(
            base_url=f"{self._url}/v1", api_key=key, timeout=settings.gateway.request_timeout_s, max_retries=_ATTEMPTS - 1
        )
        self._free = asyncio.Semaphore(max(1, settings.trainer.evaluation_concurrency // sampling.candidates))

    async def check(self) -> None:
        """See, without much patience, that the gateway is there and answers this task.

        Raises:
            CannotScore: it is not, or does not.
        """
        try:
            served = [model.id async for model in self._client.with_options(max_retries=1).models.list()]
        except OpenAIError as error:
            raise self._refused(error) from None
        if self._task not in served:
            raise CannotScore(f"The gateway at {self._url} does not answer {self._task} with this key. {_ONE_KEY} for it.")

    async def sample(self, prompt: RecentPrompt) -> Sampled | None:
        """Fresh candidates; None where the prompt cannot be asked.

        Raises:
            CannotScore: the gateway stays away, refuses the key, or cannot record.
        """
        try:
            async with self._free:
                raw = await self._client.chat.completions.with_raw_response.create(**self._request(prompt))
                completion = raw.parse()
        except OpenAIError as error:
            if isinstance(error, APIStatusError) and error.status_code in _PROMPT_IS_WRONG:
                return None
            raise self._refused(error) from None
        if raw.headers.get("x-whetstone-recorded") == "no":
            raise CannotScore(
                "The gateway cannot record its replies: is its disk full? Scores without a record are worth nothing."
            )
        text = asked(prompt.prompt)
        replies = (FreshReply(text, said(one.message.model_dump()), one.finish_reason == "length") for one in completion.choices)
        return Sampled(completion.id, datetime.now(UTC), tuple(replies))

    async def close(self) -> None:
        await self._client.close()

    def _request(self, prompt: RecentPrompt) -> dict[str, Any]:
        request = {
            "model": self._task,
            "messages": request_messages(prompt.prompt),
            "n": self._sampling.candidates,
            "temperature": self._sampling.temperature,
            "max_tokens": self._sampling.max_tokens,
        }
        optional = {"tools": prompt.tools, "user": prompt.user}
        return request | {name: value for name, value in optional.items() if value}

    def _refused(self, error: OpenAIError) -> CannotScore:
        if not isinstance(error, APIStatusError):
            return CannotScore(f"The gateway at {self._url} does not answer ({type(error).__name__}). Is `whetstone up` running?")
        if error.status_code in _KEY_IS_WRONG:
            return CannotScore(f"The gateway answers {error.status_code}. {_ONE_KEY} for {self._task}.")
        return CannotScore(
            f"The gateway goes on answering {error.status_code}. Run the command again later; `whetstone up` shows why."
        )


class Sender:
    """Sends scores to the feedback API: the one that WHETSTONE_URL names, else the one of the settings."""

    def __init__(self, settings: Settings, key: str) -> None:
        self._url = os.environ.get("WHETSTONE_URL") or settings.ingest_url
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        try:
            self._client = httpx.AsyncClient(base_url=self._url, headers=headers, timeout=_SEND_TIMEOUT_S)
        except (httpx.InvalidURL, ValueError):
            raise CannotScore("WHETSTONE_URL is no http address, or the key no key.") from None

    async def send(self, events: Sequence[ScoreEvent]) -> None:
        """Return once all of them are accepted; sent again they have no second effect.

        Raises:
            CannotScore: the feedback API stays away, or refuses. Then it has none of them, or takes the same again.
        """
        body = b'{"events":[' + b",".join(map(canonical, events)) + b"]}"
        for pause_s in _PAUSES_S:
            status = await self._post(body)
            if status == HTTPStatus.ACCEPTED:
                return
            if status in _KEY_IS_WRONG:
                raise CannotScore(f"The feedback API answers {status}. {_ONE_KEY} for the task.")
            if status and status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.TOO_MANY_REQUESTS:
                raise CannotScore(f"The feedback API answers {status} to scores. Is it of the same version?")
            await asyncio.sleep(pause_s)
        raise CannotScore(f"The feedback API at {self._url} does not take scores now. Is `whetstone up` running?")

    async def close(self) -> None:
        await self._client.aclose()

    async def _post(self, body: bytes) -> int | None:
        """The status; None where nothing answered."""
        try:
            return (await self._client.post("/v1/feedback/batch", content=body)).status_code
        except httpx.TransportError:
            return None
