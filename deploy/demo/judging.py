"""Asks base model and adapter the report's prompts: about subjects never sent as traffic, held out by the split as well."""

import asyncio
from collections.abc import Callable, Sequence

from openai import AsyncOpenAI, OpenAIError

from deploy.demo.app import MAX_TOKENS, TEMPERATURE
from deploy.demo.judgement import Reply
from deploy.demo.prompts import LIMITS, phrasings
from deploy.demo.report import Asked
from deploy.demo.subjects import REPORT

REPLIES_PER_PROMPT = 4
_AT_ONCE = 12


def report_prompts(held_out: Callable[[str], bool]) -> list[str]:
    """One prompt a subject of the fixed list: the first wording that this installation holds out, if one is."""
    prompts = []
    for number, subject in enumerate(REPORT):
        limit = LIMITS[number * 7 % len(LIMITS)]  # 7 and 15 share no factor: every limit comes
        prompts += [wording for wording in phrasings(subject, limit) if held_out(wording)][:1]
    return prompts


async def ask_all(gateway_url: str, key: str, model: str, prompts: Sequence[str], done: Callable[[], None]) -> list[Asked]:
    """Replies to every prompt, in their order, marked as evaluation: they never become pairs.

    Replies are empty where a request failed. `done` is called after each.
    """
    limit = asyncio.Semaphore(_AT_ONCE)
    async with AsyncOpenAI(base_url=f"{gateway_url}/v1", api_key=key, max_retries=0) as client:

        async def ask(prompt: str) -> Asked:
            async with limit:
                replies = await _replies(client, model, prompt)
            done()
            return Asked(prompt, replies)

        return await asyncio.gather(*map(ask, prompts))


async def _replies(client: AsyncOpenAI, model: str, prompt: str) -> tuple[Reply, ...]:
    try:
        completion = await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            n=REPLIES_PER_PROMPT,
            temperature=TEMPERATURE,
            max_tokens=MAX_TOKENS,
            extra_headers={"X-Whetstone-Purpose": "evaluation"},
        )
    except OpenAIError:
        return ()
    return tuple(Reply(choice.message.content or "", choice.finish_reason == "length") for choice in completion.choices)
