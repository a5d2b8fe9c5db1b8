"""Asks the gateway, as any client does, for fresh replies of a candidate and of what is live."""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import httpx
from sqlalchemy import and_, func, text
from sqlmodel import Session, col, select

from ingest.settings import GateSettings, Settings
from pairing.rows import first_of
from pairing.tables import READY, EventGeneration, StoredEvent, StoredVote
from trainer.chat import asked, request_messages, said
from trainer.criteria import FreshReply
from trainer.errors import CannotTrain, NotServed
from trainer.manifest import FrozenPrompt
from trainer.scrub import hash_of

_PATIENCE_S = 900
"""Without an answer. Gateway or vLLM may be starting again: the model alone takes a minute."""
_PAUSE_S = 2.0
_KEY_IS_WRONG = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_BY_SOMEBODY = 'AND "user" IS NOT NULL AND NOT evaluation LIMIT 1'
_PROMPT_IS_WRONG = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)


class Asking(NamedTuple):
    """A prompt, and one of those who asked it, or sent a pair of it.

    So the erasure of that person reaches the replies, and on Kafka their key does.
    """

    prompt: FrozenPrompt
    user: str | None


def with_users(session: Session, task: str, prompts: Sequence[FrozenPrompt]) -> list[Asking]:
    """The prompts as they are to be asked."""
    hashes = [hash_of(prompt) for prompt in prompts]
    keys = [(task, one) for one in sorted(set(hashes))]
    users = dict(first_of(session, EventGeneration, ("prompt_hash", "user"), ("task", "prompt_hash"), keys, _BY_SOMEBODY))
    users |= _senders(session, task, set(hashes) - users.keys())
    return [Asking(prompt, users.get(one)) for prompt, one in zip(prompts, hashes, strict=True)]


def _senders(session: Session, task: str, prompts: Collection[str]) -> dict[str, str]:
    """By prompt of ready pairs, one of the users whose they are."""
    of_vote = and_(col(StoredEvent.task) == StoredVote.task, col(StoredEvent.event_id) == StoredVote.event_id)
    query = (
        select(StoredVote.prompt_hash, func.min(StoredEvent.user))
        .join(StoredEvent, of_vote)
        .where(StoredVote.task == task, col(StoredVote.prompt_hash).in_(prompts), text(READY), col(StoredEvent.user).is_not(None))
        .group_by(StoredVote.prompt_hash)
    )
    return {prompt: str(user) for prompt, user in session.exec(query)}


class Gateway:
    """The gateway with the trainer's key."""

    def __init__(self, settings: Settings) -> None:
        key = settings.trainer.gateway_key
        if key is None:
            raise CannotTrain("trainer.gateway_key is not set: `make setup` makes it.")
        self._settings = settings
        self._headers = {"Authorization": f"Bearer {key.get_secret_value()}", "X-Whetstone-Purpose": "evaluation"}

    def wait_until_served(self, models: Sequence[str]) -> None:
        """Return once the gateway lists every TASK@ADAPTER.

        Raises:
            NotServed: it does not within a quarter of an hour.
            CannotTrain: the gateway does not take the key.
        """
        asyncio.run(self._wait_until_served(models))

    def replies(
        self, model: str, asking: Sequence[Asking], rule: GateSettings, on_prompt: Callable[[], None]
    ) -> list[list[FreshReply]]:
        """`replies_per_prompt` fresh replies to each prompt, in order; none where it cannot be asked (too long).

        Raises:
            NotServed: the gateway goes on failing.
            CannotTrain: the gateway does not take the key.
        """
        return asyncio.run(self._replies(model, asking, rule, on_prompt))

    async def _wait_until_served(self, models: Sequence[str]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        async with self._client() as client:
            while True:
                answer = await _sent(client, "GET", "/v1/models")
                missing = set(models) - {served["id"] for served in answer.json()["data"]}
                if not missing:
                    return
                await _pause(deadline, f"{', '.join(sorted(missing))} is not served")

    async def _replies(
        self, model: str, asking: Sequence[Asking], rule: GateSettings, on_prompt: Callable[[], None]
    ) -> list[list[FreshReply]]:
        free = asyncio.Semaphore(max(1, self._settings.trainer.evaluation_concurrency // rule.replies_per_prompt))

        async def one(client: httpx.AsyncClient, ask: Asking) -> list[FreshReply]:
            async with free:
                answer = await _sent(client, "POST", "/v1/chat/completions", json=_request(model, ask, rule))
            on_prompt()
            if answer.status_code in _PROMPT_IS_WRONG:
                return []
            return [_fresh(asked(ask.prompt.prompt), choice) for choice in answer.json()["choices"]]

        async with self._client() as client:
            return await asyncio.gather(*(one(client, ask) for ask in asking))

    def _client(self) -> httpx.AsyncClient:
        timeout = self._settings.gateway.request_timeout_s
        return httpx.AsyncClient(base_url=self._settings.gateway_url, headers=self._headers, timeout=timeout)


async def _sent(client: httpx.AsyncClient, method: str, path: str, **request: Any) -> httpx.Response:
    """The answer, however often it takes. A 404 is an adapter that vLLM, started again, has not loaded yet."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            answer = await client.request(method, path, **request)
        except httpx.TransportError as error:
            await _pause(deadline, f"the gateway does not answer ({type(error).__name__})")
            continue
        if answer.is_success or answer.status_code in _PROMPT_IS_WRONG:
            return answer
        if answer.status_code in _KEY_IS_WRONG:
            raise CannotTrain(
                f"The gateway answers {answer.status_code} to the trainer: trainer.gateway_key needs a key with the scopes "
                "inference and admin for the task. `make setup` makes one."
            )
        await _pause(deadline, f"the gateway answers {answer.status_code}")


async def _pause(deadline: float, why: str) -> None:
    if time.monotonic() > deadline:
        raise NotServed(f"After {_PATIENCE_S} s, {why}.")
    await asyncio.sleep(_PAUSE_S)


def _request(model: str, ask: Asking, rule: GateSettings) -> dict[str, Any]:
    # n > 1 with temperature 0 is refused by vLLM, and would say the same n times.
    count = rule.replies_per_prompt if rule.temperature > 0 else 1
    request = {
        "model": model,
        "messages": request_messages(ask.prompt.prompt),
        "n": count,
        "temperature": rule.temperature,
        "max_tokens": rule.max_tokens,
    }
    optional = {"tools": ask.prompt.tools, "user": ask.user}
    return request | {name: value for name, value in optional.items() if value}


def _fresh(prompt: str, choice: dict[str, Any]) -> FreshReply:
    return FreshReply(prompt, said(choice["message"]), choice["finish_reason"] == "length")
