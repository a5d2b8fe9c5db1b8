"""Asks the gateway, as any client does, for fresh replies of a candidate and of what is live."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from ingest.events import Prompt
from ingest.settings import GateSettings, Settings
from trainer.chat import asked, prompt_messages
from trainer.criteria import FreshReply
from trainer.errors import CannotTrain, NotServed

_PATIENCE_S = 900
"""Gateway or vLLM may be starting again: the model alone takes a minute."""
_PAUSE_S = 2.0


class Gateway:
    """The gateway with the trainer's key."""

    def __init__(self, settings: Settings) -> None:
        key = settings.trainer.gateway_key
        if key is None:
            raise CannotTrain("trainer.gateway_key is not set: `make setup` makes it.")
        self._settings = settings
        self._headers = {"Authorization": f"Bearer {key.get_secret_value()}", "X-Whetstone-Purpose": "evaluation"}

    def wait_until_served(self, model: str) -> None:
        """Return once the gateway lists TASK@ADAPTER.

        Raises:
            NotServed: it does not within a quarter of an hour.
        """
        asyncio.run(self._wait_until_served(model))

    def replies(
        self, model: str, prompts: Sequence[Prompt], rule: GateSettings, on_prompt: Callable[[], None]
    ) -> list[list[FreshReply]]:
        """`replies_per_prompt` fresh replies to each prompt, in the prompts' order.

        Raises:
            NotServed: the gateway goes on failing.
            CannotTrain: the gateway refuses the request as such.
        """
        return asyncio.run(self._replies(model, prompts, rule, on_prompt))

    async def _wait_until_served(self, model: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        async with self._client() as client:
            while True:
                answer = await _sent(client, "GET", "/v1/models", deadline)
                if model in {served["id"] for served in answer.json()["data"]}:
                    return
                await _pause(deadline, f"{model} is not served")

    async def _replies(
        self, model: str, prompts: Sequence[Prompt], rule: GateSettings, on_prompt: Callable[[], None]
    ) -> list[list[FreshReply]]:
        free = asyncio.Semaphore(max(1, self._settings.trainer.evaluation_concurrency // rule.replies_per_prompt))
        deadline = time.monotonic() + _PATIENCE_S

        async def one(client: httpx.AsyncClient, prompt: Prompt) -> list[FreshReply]:
            async with free:
                answer = await _sent(client, "POST", "/v1/chat/completions", deadline, json=_request(model, prompt, rule))
            on_prompt()
            return [_fresh(asked(prompt), choice) for choice in answer.json()["choices"]]

        async with self._client() as client:
            return await asyncio.gather(*(one(client, prompt) for prompt in prompts))

    def _client(self) -> httpx.AsyncClient:
        timeout = self._settings.gateway.request_timeout_s
        return httpx.AsyncClient(base_url=self._settings.gateway_url, headers=self._headers, timeout=timeout)


async def _sent(client: httpx.AsyncClient, method: str, path: str, deadline: float, **request: Any) -> httpx.Response:
    """The answer, however often it takes."""
    while True:
        try:
            answer = await client.request(method, path, **request)
        except httpx.TransportError as error:
            await _pause(deadline, f"the gateway does not answer ({type(error).__name__})")
            continue
        if answer.status_code < 400:
            return answer
        if answer.status_code < 500 and answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
            raise CannotTrain(f"The gateway answers {answer.status_code} to {path}: {answer.text[:300]}")
        await _pause(deadline, f"the gateway answers {answer.status_code}")


async def _pause(deadline: float, why: str) -> None:
    if time.monotonic() > deadline:
        raise NotServed(f"After {_PATIENCE_S} s, {why}.")
    await asyncio.sleep(_PAUSE_S)


def _request(model: str, prompt: Prompt, rule: GateSettings) -> dict[str, Any]:
    # n > 1 with temperature 0 is refused by vLLM, and would say the same n times.
    count = rule.replies_per_prompt if rule.temperature > 0 else 1
    return {
        "model": model,
        "messages": prompt_messages(prompt),
        "n": count,
        "temperature": rule.temperature,
        "max_tokens": rule.max_tokens,
    }


def _fresh(prompt: str, choice: dict[str, Any]) -> FreshReply:
    return FreshReply(prompt, choice["message"].get("content") or "", choice["finish_reason"] == "length")
