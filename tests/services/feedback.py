"""Events for tests, as short as a test wants to read them. Times are seconds after a fixed moment."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from ingest.events import Event, canonical, event_adapter, record_key
from ingest.log import NewRecord

TASK = "summarise"
START = datetime(2026, 1, 1, tzinfo=UTC)
PROMPT = "Describe the sea."


def event(kind: str, event_id: str, at: float = 0, user: str | None = "ann", **fields: Any) -> Event:
    """Any event."""
    occurred_at = (START + timedelta(seconds=at)).isoformat()
    whole = {"type": kind, "event_id": event_id, "task": TASK, "user": user, "occurred_at": occurred_at} | fields
    return event_adapter.validate_python(whole)


def ref(generation: str, candidate: int = 0) -> dict[str, Any]:
    return {"generation_id": generation, "candidate": candidate}


def held(generation: str, *texts: str, prompt: Any = PROMPT, **fields: Any) -> dict[str, Any]:
    """A generation as a feedback carries it."""
    return {"generation_id": generation, "prompt": prompt, "candidates": [{"reply": text} for text in texts], **fields}


def generation(id_: str, *texts: str, event_id: str | None = None, prompt: Any = PROMPT, **fields: Any) -> Event:
    """The gateway's record of a generation."""
    content = held(id_, *texts, prompt=prompt)
    return event("generation", event_id or id_, **content | fields)


def choice(event_id: str, picked: Any, *shown: Any, **fields: Any) -> Event:
    """`picked` is one of `shown`, `tie` or `none`."""
    return event("choice", event_id, picked=picked, shown=shown, **fields)


def regeneration(event_id: str, thrown_away: str, replacement: str, candidate: int = 0, **fields: Any) -> Event:
    return event("regeneration", event_id, reply=ref(thrown_away, candidate), replacement=replacement, **fields)


def acceptance(event_id: str, kept: str, candidate: int = 0, **fields: Any) -> Event:
    return event("acceptance", event_id, reply=ref(kept, candidate), **fields)


def edit(event_id: str, draft: str, saved: Any, candidate: int = 0, **fields: Any) -> Event:
    return event("edit", event_id, reply=ref(draft, candidate), saved=saved, **fields)


def preference(event_id: str, chosen: Any, rejected: Any, prompt: Any = PROMPT, **fields: Any) -> Event:
    return event("preference", event_id, prompt=prompt, chosen=chosen, rejected=rejected, **fields)


def record(one: Event) -> NewRecord:
    """As ingest appends it."""
    return NewRecord(record_key(one).encode(), canonical(one))


def crowd(visits: int, seed: int = 0) -> list[Event]:
    """Events of people who choose, regenerate and edit, in any order and some of them twice. They meet on few texts."""
    chance = random.Random(seed)
    events = [one for number in range(visits) for one in _visit(number, chance)]
    events += chance.sample(events, len(events) // 10)
    chance.shuffle(events)
    return events


def everyone(visits: int, seed: int = 0) -> list[Event]:
    """As the crowd, and with them people who rate and score, ready pairs, ids that are used twice, and people to be forgotten."""
    chance = random.Random(seed + 1)
    events = crowd(visits, seed)
    for number in range(visits // 3):
        who = {"user": f"user-{chance.randrange(50)}", "at": chance.randrange(1_000)}
        about = ref(f"g{3 * chance.randrange(visits // 3 or 1)}", chance.randrange(4))
        thumb, value = chance.choice(("up", "down")), chance.randrange(4)
        ready = chance.sample(["alpha", "beta", "gamma"], 2)
        events += [
            event("rating", f"t{number}", reply=about, thumb=thumb, **who),
            event("score", f"s{number}", reply=about, criterion="short", value=value, by="criterion", at=who["at"]),
            preference(f"p{number % 50}", *ready, prompt=f"Describe the sea in {chance.randrange(5)} words.", **who),
        ]
    events += [event("erasure", f"x{number}", user=f"user-{number}") for number in range(2)]
    chance.shuffle(events)
    return events


def _visit(number: int, chance: random.Random) -> list[Event]:
    who = {"user": f"user-{chance.randrange(50)}", "at": chance.randrange(1_000)}
    prompt = f"Describe {chance.choice(('the sea', 'a hill', 'rain'))} in {chance.randrange(5)} words."
    texts = chance.sample(["alpha", "beta", "gamma", "delta", "epsilon"], 4)
    match number % 3:
        case 0:
            shown = [ref(f"g{number}", candidate) for candidate in range(4)]
            asked = generation(f"g{number}", *texts, prompt=prompt, **who)
            return [asked, choice(f"c{number}", chance.choice([*shown, "none"]), *shown, **who)]
        case 1:
            ids = [f"g{number}-{turn}" for turn in range(4)]
            asked_again = [generation(id_, text, prompt=prompt, **who) for id_, text in zip(ids, texts, strict=True)]
            links = [regeneration(f"r{number}-{turn}", ids[turn], ids[turn + 1], **who) for turn in range(3)]
            return [*asked_again, *links, acceptance(f"a{number}", ids[-1], **who)]
        case _:
            drafted = generation(f"g{number}", texts[0], prompt=prompt, **who)
            return [drafted, edit(f"e{number}", f"g{number}", texts[1], **who)]
