"""Histories of events for Hypothesis: few names and texts, so that events meet in generations, chains, votes and ids."""

from typing import Any

from hypothesis import strategies as st

from ingest.events import Event
from ingest.settings import CriterionSettings, Settings, SourceSettings, SourcesSettings, TaskPairingSettings, TaskSettings
from tests.services.feedback import PROMPT, TASK, acceptance, choice, edit, event, generation, held, preference, ref, regeneration
from tests.services.ledger import settings_for

CHAT = [{"role": "user", "content": "Describe the sea."}]
DRAFT = "A long draft about the sea, the land and all that lives there, in many words that nobody ever changed. " * 4
_WRITTEN = (("beta", None), ("gamma", "summarise-r000001"), ("beta", "summarise-r000002"), ("delta", None))
WORLD = (
    *(generation(f"g{n}", "alpha", text, adapter=by, user=None) for n, (text, by) in enumerate(_WRITTEN)),
    generation("long", DRAFT, "alpha", user=None),
    generation("chat", "alpha", "beta", prompt=CHAT, user=None),
    generation("judged", "alpha", "beta", purpose="evaluation", user=None),
    generation("other", "alpha", "beta", prompt="Another one.", user=None),
)
"""What was asked of the model."""
CRITERIA = ("short", "polite", "unknown")
"""The settings name the first two."""

_PEOPLE = st.sampled_from(["ann", "bob", "cid", "dan", None])
_IDS = st.sampled_from(["g0", "g1", "g2", "g3"] * 4 + ["long", "chat", "judged", "other", "lost"])
_TEXTS = st.sampled_from(["alpha", "beta", "gamma", "delta"])
_SAVED = st.sampled_from(["alpha", "beta", "delta", "alpha!", " beta", DRAFT.replace("land", "lane", 1), DRAFT + "!"])
_PROMPTS = st.sampled_from([PROMPT] * 3 + ["Another one."])
_REFS = st.builds(ref, _IDS, st.sampled_from([0, 0, 0, 1, 1, 1, 2]))
_EVENT_IDS = st.integers(0, 30).map("e{}".format)
_KINDS = st.sampled_from("RRRRRRAAAACCCCCCEEEEPPGXSSSSSTTTT")


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Any event about that world. Two of them may have one id and two bodies."""
    fields: dict[str, Any] = {
        "at": draw(st.integers(0, 5)),
        "user": draw(_PEOPLE),
        "revision": draw(st.sampled_from([None, None, 1])),
        "by": draw(st.sampled_from(["user", "user", "user", "expert"])),
    }
    id_, kind = draw(_EVENT_IDS), draw(_KINDS)
    written = draw(st.sampled_from([{}, {"model": "smollm2"}, {"adapter": "summarise-r000001"}]))
    texts = draw(st.lists(_TEXTS, min_size=1, max_size=2))
    carried = {} if draw(st.integers(0, 5)) else {"generation": held(draw(_IDS), *texts, prompt=draw(_PROMPTS), **written)}
    match kind:
        case "G":
            return generation(draw(_IDS), *texts, event_id=id_, prompt=draw(_PROMPTS), **fields | written)
        case "C":
            shown = draw(st.lists(_REFS, min_size=2, max_size=3, unique_by=str))
            return choice(id_, draw(st.sampled_from([*shown, "tie", "none"])), *shown, **fields | carried)
        case "R":
            candidate = draw(st.sampled_from([0, 0, 0, 1]))
            return regeneration(id_, draw(_IDS), draw(_IDS), candidate, **fields | carried)
        case "A":
            return acceptance(id_, draw(_IDS), draw(st.integers(0, 1)), **fields | carried)
        case "E":
            started_from = draw(st.sampled_from([None, None, draw(_EVENT_IDS)]))
            return edit(id_, draw(_IDS), draw(_SAVED), draw(st.integers(0, 1)), edit_of=started_from, **fields | carried)
        case "S":
            scored = {"criterion": draw(st.sampled_from(CRITERIA)), "value": draw(st.integers(0, 3)) / 2}
            return event("score", id_, reply=draw(_REFS), **scored, **fields | carried | {"by": "criterion"})
        case "T":
            return event("rating", id_, reply=draw(_REFS), thumb=draw(st.sampled_from(["up", "down"])), **fields | carried)
        case "P":
            return preference(id_, draw(_TEXTS), draw(_TEXTS), **fields)
        case _:
            return event("erasure", id_, **fields | {"user": draw(st.sampled_from(["ann", "bob"]))})


HISTORIES = st.lists(events(), min_size=15, max_size=40).map(lambda drawn: [*WORLD, *drawn])


def _criteria(min_margin: float) -> tuple[CriterionSettings, ...]:
    short = CriterionSettings(name="short", type="word_limit", max_words=5, weight=2, min_margin=min_margin)
    return short, CriterionSettings(name="polite", type="regex", pattern="please", min_margin=min_margin)


_EACH = st.sampled_from(["first", "each"])
_SOURCE = st.builds(SourceSettings, weight=st.sampled_from([1, 1, 3]), wrong_share=st.sampled_from([0.1, 0.3]))
_RULES = st.builds(
    TaskPairingSettings,
    sources=st.builds(SourcesSettings, choice=_SOURCE, rating=_SOURCE),
    choice=_EACH,
    regeneration=_EACH,
    criteria=st.sampled_from(["weighted", "lexicographic"]),
    rating_pairs_per_prompt=st.sampled_from([1, 4]),
)
_TASKS = st.builds(TaskSettings, pairing=_RULES, criteria=st.sampled_from([0, 0.5]).map(_criteria))


def _settings(task: TaskSettings, batch_events: int) -> Settings:
    return settings_for(batch_events=batch_events).model_copy(update={"tasks": {TASK: task}})


SETTINGS = st.builds(_settings, _TASKS, st.integers(1, 8))
"""Settings of a task, to be worked by in small batches."""
