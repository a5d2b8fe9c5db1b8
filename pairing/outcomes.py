"""What became of an event, and why a record was set aside: closed lists, each entry with its meaning."""

from enum import StrEnum
from typing import Self


class Meaning(StrEnum):
    """A closed list: each value has its meaning beside it."""

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class Outcome(Meaning):
    """What became of a stored event."""

    RECORDED = "recorded", "A generation: feedback on it can become pairs."
    APPLIED = "applied", "An erasure: every event of this user counts as nothing."
    VOTED = "voted", "It says which of two replies is better, or rates one; how that stands follows from all that others say."
    PAIRED = "paired", "It stands behind a pair."
    DRAW = "draw", "As many votes say the opposite of these two replies: no pair."
    OUTVOTED = "outvoted", "More votes say the opposite of these two replies: the pair is the other way round."
    SUPERSEDED = "superseded", "A later event about the same counts instead, of the same person or of the same criterion."
    SAME_TEXT = "same-text", "The preferred and the other replies are the same text."
    TIE = "tie", "The person found the replies equally good."
    NONE_GOOD = "none-good", "The person found none of the replies good."
    PICKED_FIRST = "picked-first", "The reply shown first was picked: the task's setting `choice` compares with that one only."
    UNCHANGED_EDIT = "unchanged-edit", "Only white space or punctuation was edited, or nothing."
    SMALL_EDIT = "small-edit", "The edit changed a smaller share of the text than the task's min_edit_share."
    SMALL_MARGIN = "small-margin", "The scores differ by less than the criteria's min_margin, or not at all."
    BETWEEN = "between", "A score of a reply that is neither the one put highest nor the one put lowest: those two are paired."
    UNKNOWN_CRITERION = "unknown-criterion", "The task's settings have no criterion of this name."
    UNPAIRED_EXAMPLE = "unpaired-example", "A rating without a counterpart on its prompt: an example for KTO, in no pair."
    NOTHING_REJECTED = "nothing-rejected", "A reply was kept, and no other one was thrown away for it."
    WAITING_FOR_GENERATION = "waiting-for-generation", "A generation that it names has not come yet."
    WAITING_FOR_CLOSING = "waiting-for-closing", "Replies were thrown away, and none has been kept yet."
    WAITING_FOR_SCORE = "waiting-for-score", "The reply has not been scored by each criterion yet, or no other reply has."
    WAITING_FOR_EDIT = "waiting-for-edit", "The edit that it started from has not come yet, or is of another generation."
    CHANGED_PROMPT = "changed-prompt", "The new generation answers another prompt than the reply that was thrown away."
    DIFFERENT_PROMPTS = "different-prompts", "The replies shown together answer different prompts."
    CYCLE = "cycle", "The regenerations, or the edits of edits, go round in a circle."
    UNKNOWN_CANDIDATE = "unknown-candidate", "The generation has no candidate of this number."
    EVALUATION = "evaluation", "It is about, or is, a reply written to judge an adapter: never a pair."
    UNKNOWN_TASK = "unknown-task", "The settings have no task of this name; it counts as soon as they do."
    ERASED = "erased", "Its user was erased: its content is removed, and it counts as nothing."
    EXPIRED = "expired", "It is older than the task keeps events: its content is removed, and it counts as nothing."


class DeadReason(Meaning):
    """Why a record of the event log is kept aside and counts as nothing."""

    INVALID = "invalid", "Not an event: not JSON, of no known type, or with wrong fields."
    UNREADABLE = "unreadable", "It is encrypted, and its user's key is not in the database, or it was changed since."
    CONFLICTING_BODY = "conflicting-body", "Another event has the same task and event_id, and its body's SHA-256 is smaller."
