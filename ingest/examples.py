"""One example of each type of event, as the OpenAPI document shows it."""

from typing import Any

_DRAFT = {"generation_id": "chatcmpl-7f3a", "candidate": 0}
_OTHER = {"generation_id": "chatcmpl-7f3a", "candidate": 1}
_PROMPT = [{"role": "user", "content": "Describe the sea in at most 12 words."}]


def _event(kind: str, **fields: Any) -> dict[str, Any]:
    envelope = {"event_id": f"{kind}-0001", "task": "summarise-short", "user": "u-17", "occurred_at": "2026-03-01T09:30:00Z"}
    return {"type": kind, **envelope, **fields}


EXAMPLES: dict[str, dict[str, Any]] = {
    "generation": _event(
        "generation",
        generation_id="chatcmpl-7f3a",
        prompt=_PROMPT,
        candidates=[{"reply": "Salt water, wide and restless."}, {"reply": "The sea is a very large body of salt water."}],
        model="base",
        sampling={"temperature": 0.7, "n": 2},
    ),
    "choice": _event("choice", shown=[_DRAFT, _OTHER], picked=_OTHER),
    "regeneration": _event("regeneration", reply=_DRAFT, replacement="chatcmpl-81c0"),
    "acceptance": _event("acceptance", reply={"generation_id": "chatcmpl-81c0", "candidate": 0}),
    "edit": _event("edit", reply=_DRAFT, saved="Wide, restless salt water."),
    "score": _event("score", by="criterion", reply=_DRAFT, criterion="word-limit", value=1.0),
    "rating": _event("rating", reply=_DRAFT, thumb="up"),
    "preference": _event(
        "preference",
        prompt=_PROMPT,
        chosen="Salt water, wide and restless.",
        rejected="The sea is a very large body of salt water that covers most of our planet.",
    ),
    "erasure": _event("erasure"),
}
