"""What became of an event, and why a record was set aside: closed lists, each entry with its meaning."""

from enum import StrEnum


class Outcome(StrEnum):
    """What became of a stored event."""

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> "Outcome":
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    RECORDED = "recorded", "A generation: feedback on it can become pairs."
    APPLIED = "applied", "An erasure: every event of this user counts as nothing."
    VOTED = "voted", "It votes on two replies; how it stands follows from all votes on them."
    PAIRED = "paired", "It stands behind a pair."
    DRAW = "draw", "As many votes say the opposite of these two replies: no pair."
    OUTVOTED = "outvoted", "More votes say the opposite of these two replies: the pair is the other way round."
    SUPERSEDED = "superseded", "A later event of the same person about the same counts instead."
    SAME_TEXT = "same-text", "The preferred and the other replies are the same text."
    TIE = "tie", "The person found the replies equally good."
    NONE_GOOD = "none-good", "The person found none of the replies good."
    UNCHANGED_EDIT = "unchanged-edit", "Only white space or punctuation was edited, or nothing."
    SMALL_EDIT = "small-edit", "The edit changed a smaller share of the text than the task's min_edit_share."
    NOTHING_REJECTED = "nothing-rejected", "A reply was kept, and no other one was thrown away for it."
    WAITING_FOR_GENERATION = "waiting-for-generation", "A generation that it names has not come yet."
    WAITING_FOR_CLOSING = "waiting-for-closing", "Replies were thrown away, and none has been kept yet."
    CHANGED_PROMPT = "changed-prompt", "The new generation answers another prompt than the reply that was thrown away."
    DIFFERENT_PROMPTS = "different-prompts", "The replies shown together answer different prompts."
    CYCLE = "cycle", "The regenerations go round in a circle."
    UNKNOWN_CANDIDATE = "unknown-candidate", "The generation has no candidate of this number."
    EVALUATION = "evaluation", "It is about, or is, a reply written to judge an adapter: never a pair."
    UNKNOWN_TASK = "unknown-task", "The settings have no task of this name; it counts as soon as they do."
    ERASED = "erased", "Its user was erased: it counts as nothing."
    NOT_PAIRED_YET = "not-paired-yet", "Scores and ratings are kept, and do not become pairs yet."


class DeadReason(StrEnum):
    """Why a record of the event log is kept aside and counts as nothing."""

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> "DeadReason":
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    INVALID = "invalid", "Not an event: not JSON, of no known type, or with wrong fields."
    CONFLICTING_BODY = "conflicting-body", "Another event has the same task and event_id, and its body's SHA-256 is smaller."
