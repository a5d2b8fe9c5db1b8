"""Simulated people: separate client code that knows two addresses and a key, and nothing of the inside.

    WHETSTONE_KEY=wsk_... python -m deploy.demo.users GATEWAY_URL INGEST_URL SEED

Many at once, until a line `trickle` comes on standard input; then one after the other, until standard input ends.
What happens is told on standard output, a line of JSON each.
"""

import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from openai import AsyncOpenAI

from deploy.demo.app import Answer, App, NoAnswer
from deploy.demo.criteria import word_limit
from deploy.demo.judgement import Reply, is_good, over_limit, pick, shorten
from deploy.demo.prompts import TASK, any_prompt
from deploy.demo.subjects import TRAFFIC

AT_ONCE = 16
TRICKLE_GAP_S = 5.0
CANDIDATES = 3
REGENERATIONS = 3
PEOPLE_OF_A_KIND = 200
SLIP = 0.05
"""Share of judgements that people get wrong."""

Visit = Callable[[App, str, str, random.Random], Awaitable[None]]


async def choose(app: App, user: str, prompt: str, chance: random.Random) -> None:
    """Looks at several candidates and picks the best, or says that none is good."""
    answer = await app.ask(user, prompt, n=CANDIDATES)
    best = pick(prompt, answer.replies)
    if chance.random() < SLIP:
        best = chance.randrange(CANDIDATES)
    shown = [_ref(answer, candidate) for candidate in range(len(answer.replies))]
    await app.send(user, "choice", shown=shown, picked="none" if best is None else shown[best])


async def regenerate(app: App, user: str, prompt: str, chance: random.Random) -> None:
    """Throws replies away until one is good, and keeps that; gives up after a few."""
    answer = await _one(app, user, prompt, chance)
    for _ in range(REGENERATIONS):
        if is_good(prompt, answer.replies[0]) or chance.random() < SLIP:
            break
        rejected, answer = answer, await _one(app, user, prompt, chance)
        await app.send(user, "regeneration", reply=_ref(rejected), replacement=answer.generation_id)
    else:
        if not is_good(prompt, answer.replies[0]):
            return
    await app.send(user, "acceptance", reply=_ref(answer))


async def edit(app: App, user: str, prompt: str, chance: random.Random) -> None:
    """Shortens a draft that is too long and saves it; keeps a good one as it is; leaves anything else alone."""
    answer = await _one(app, user, prompt, chance)
    draft = answer.replies[0]
    if is_good(prompt, draft) or chance.random() < SLIP:
        return await app.send(user, "acceptance", reply=_ref(answer))
    shortened = Reply(shorten(draft.text, word_limit(prompt)))
    if over_limit(prompt, draft) and is_good(prompt, shortened):
        await app.send(user, "edit", reply=_ref(answer), saved=shortened.text)


KINDS: dict[str, tuple[Visit, int]] = {"chooser": (choose, 2), "regenerator": (regenerate, 3), "editor": (edit, 3)}
"""Kinds of people, and how many of eight are so."""


async def visit(app: App, chance: random.Random, kinds: tuple[str, ...]) -> None:
    """One person comes with one wish, and leaves when it is met or failed."""
    kind = chance.choices(kinds, [KINDS[name][1] for name in kinds])[0]
    user = f"{kind}-{chance.randrange(PEOPLE_OF_A_KIND):03}"
    try:
        await KINDS[kind][0](app, user, any_prompt(chance.choice(TRAFFIC), chance), chance)
    except NoAnswer:
        return


async def live(app: App, seed: int, trickle: asyncio.Event, end: asyncio.Event) -> None:
    """A crowd first, then one person after the other, each watching the reply being written."""
    async with asyncio.TaskGroup() as crowd:
        for number in range(AT_ONCE):
            crowd.create_task(_keep_coming(app, random.Random(f"{seed}/{number}"), trickle))
    app.stream_share, chance = 1.0, random.Random(seed)
    while not end.is_set():
        await visit(app, chance, ("regenerator", "editor"))
        await asyncio.sleep(TRICKLE_GAP_S)


async def _keep_coming(app: App, chance: random.Random, until: asyncio.Event) -> None:
    while not until.is_set():
        await visit(app, chance, tuple(KINDS))


async def _one(app: App, user: str, prompt: str, chance: random.Random) -> Answer:
    return await (app.ask_streaming if chance.random() < app.stream_share else app.ask)(user, prompt)


def _ref(answer: Answer, candidate: int = 0) -> dict[str, Any]:
    return {"generation_id": answer.generation_id, "candidate": candidate}


async def _obey(trickle: asyncio.Event, end: asyncio.Event) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        trickle.set()
    trickle.set()
    end.set()


async def main(gateway_url: str, ingest_url: str, seed: int) -> None:
    """Live until standard input ends."""
    key = os.environ["WHETSTONE_KEY"]
    trickle, end = asyncio.Event(), asyncio.Event()
    async with (
        AsyncOpenAI(base_url=f"{gateway_url}/v1", api_key=key, max_retries=0) as client,
        httpx.AsyncClient(base_url=ingest_url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as http,
    ):
        app = App(client, http, TASK, stream_share=0.5)
        await asyncio.gather(live(app, seed, trickle, end), _obey(trickle, end))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
