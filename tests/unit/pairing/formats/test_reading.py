"""Rows as documentation and data sets have them, and rows that nobody can keep whole."""

import json
from typing import Any

import pytest

from ingest.events import Message
from pairing.formats import FORMATS, READ, Unclear, detect
from pairing.formats.values import Entry, Reason, Refused, Row
from tests.unit.pairing.formats.rows import (
    ASKED_ROWS,
    BAD,
    BAD_ROW,
    CALLS,
    CHAT_ROWS,
    DOCUMENTED,
    GOOD,
    GOOD_ROW,
    QUESTION,
    RESULT,
    SYSTEM,
    TOOL,
    call,
    m,
    pair,
)

IDS = [f"{name}-{number}" for number, (name, _, _) in enumerate(DOCUMENTED)]
PICTURE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}]}


@pytest.mark.parametrize(("name", "row", "wanted"), DOCUMENTED, ids=IDS)
def test_a_documented_row_is_read_as_it_is_meant(name: str, row: Row, wanted: list[Entry]) -> None:
    assert list(FORMATS[name].read(row)) == wanted


@pytest.mark.parametrize(("name", "row", "wanted"), DOCUMENTED, ids=IDS)
def test_a_documented_row_looks_like_its_own_format_and_no_other(name: str, row: Row, wanted: list[Entry]) -> None:
    assert [other for other, found in FORMATS.items() if found.claims(row)] == [name]
    assert detect([row]).name == name


def test_every_format_has_a_documented_row() -> None:
    alike = {"azure", "fireworks", "together"}  # written as OpenAI's rows, and read by its reader
    assert {name for name, _, _ in DOCUMENTED} | alike == set(READ)
    assert {FORMATS[name].read for name in alike} == {FORMATS["openai"].read}


def test_rows_that_no_format_claims_do_not_hide_the_format_of_the_others() -> None:
    supervised = {"messages": [*ASKED_ROWS, GOOD_ROW]}
    assert detect([supervised, {}, {**supervised, "rejected_message": BAD_ROW}]).name == "openpipe"


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([{"text": "a"}], "no format that is known"),
        ([{"messages": [*ASKED_ROWS, GOOD_ROW], "rejected_message": BAD_ROW, "rejected_response": BAD}], "openpipe or swift"),
        ([{"chosen": "ab", "rejected": "ac"}, {"input": "a", "chosen": "b", "rejected": "c"}], "trl-standard, others like orca"),
    ],
)
def test_rows_that_fit_no_format_or_several_need_to_be_told(rows: list[Row], named: str) -> None:
    with pytest.raises(Unclear, match=named):
        detect(rows)


def openai(chosen: Any, rejected: Any, *prompt: Any) -> Row:
    return {"input": {"messages": list(prompt or ASKED_ROWS)}, "preferred_output": chosen, "non_preferred_output": rejected}


def ranked(*ranks: int) -> list[Row]:
    return [{"rank": rank, "completion": [m("assistant", f"{number}")]} for number, rank in enumerate(ranks)]


def scored(*scores: int) -> list[Row]:
    parts = [{"text": "a"}]
    return [{"score": score, "completion": {"role": "model", "parts": parts}} for score in scores]


def labelled(*labels: str) -> Row:
    candidates = [{"content": [{"text": label}], "preferenceLabel": label} for label in labels]
    return {"role": "assistant", "candidates": candidates}


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [{"a": value}]
    return value


REFUSED: list[tuple[str, Row, Reason]] = [
    ("openpipe", {"messages": [*ASKED_ROWS, GOOD_ROW]}, Reason.NOT_A_PAIR),
    ("openpipe", {"messages": [GOOD_ROW], "rejected_message": BAD_ROW}, Reason.NO_PROMPT),
    ("openpipe", {"messages": [*CHAT_ROWS], "rejected_message": BAD_ROW}, Reason.NOT_ASSISTANT),
    ("openpipe", {"messages": "text", "rejected_message": BAD_ROW}, Reason.WRONG_FIELD),
    ("openai", openai([GOOD_ROW], [GOOD_ROW]), Reason.SAME_TEXT),
    ("openai", openai([CALLS, RESULT, GOOD_ROW], [BAD_ROW]), Reason.SEVERAL_MESSAGES),
    ("openai", openai([GOOD_ROW], [BAD_ROW], PICTURE), Reason.NOT_TEXT),
    ("openai", openai([GOOD_ROW], [{"role": "assistant"}]), Reason.WRONG_MESSAGE),
    ("openai", openai([GOOD_ROW], [{**BAD_ROW, "weight": 0}]), Reason.WRONG_MESSAGE),
    ("openai", openai([GOOD_ROW], [m("robot", BAD)]), Reason.WRONG_MESSAGE),
    ("openai", openai([GOOD_ROW], []), Reason.WRONG_FIELD),
    ("openai", {**openai([GOOD_ROW], [BAD_ROW]), "input": "text"}, Reason.WRONG_FIELD),
    ("openai", openai([GOOD_ROW], [{**BAD_ROW, "audio": {"id": "a"}}]), Reason.NOT_TEXT),
    ("openai", {**openai([GOOD_ROW], [BAD_ROW]), "tools": [TOOL]}, Reason.TOOLS),  # they belong into `input`
    ("openai", {**openai([GOOD_ROW], [BAD_ROW]), "input": {"messages": ASKED_ROWS, "tools": "[{"}}, Reason.WRONG_FIELD),
    ("fireworks-cookbook", {"samples": [{"messages": [GOOD_ROW], "score": 0.5}]}, Reason.TIE),
    ("trl", {"chosen": [*ASKED_ROWS, GOOD_ROW], "rejected": [m("user", "Hi"), BAD_ROW]}, Reason.DIFFERENT_PROMPTS),
    ("trl", {"chosen": [GOOD_ROW], "rejected": [BAD_ROW]}, Reason.NO_PROMPT),
    (
        "trl",
        {"prompt": ASKED_ROWS, "chosen": [GOOD_ROW, m("user", "?"), GOOD_ROW], "rejected": [BAD_ROW]},
        Reason.SEVERAL_MESSAGES,
    ),
    ("trl", {"prompt": ASKED_ROWS, "chosen": [GOOD_ROW], "rejected": [BAD_ROW], "tools": "{"}, Reason.WRONG_FIELD),
    *(
        ("trl", {"prompt": ASKED_ROWS, "chosen": [GOOD_ROW], "rejected": [BAD_ROW], "tools": tools}, Reason.WRONG_FIELD)
        for tools in (
            nested(1_000),
            json.dumps(nested(300)),
            '[{"name": "\\ud800"}]',
            '[{"a": 1, "a": 2}]',
            '[{"a": NaN}]',
            [{"a": b"b"}],
        )
    ),
    *(
        ("openai", openai([GOOD_ROW], [{**CALLS, "tool_calls": [call(arguments)]}]), Reason.WRONG_MESSAGE)
        for arguments in ({"a": b"b"}, {"a": float("nan")}, {"a": nested(300)})
    ),
    ("trl", {"prompt": ASKED_ROWS, "chosen": [GOOD_ROW], "rejected": [BAD_ROW], "images": ["cat.png"]}, Reason.NOT_TEXT),
    ("trl-standard", {"chosen": "abc", "rejected": "xyz"}, Reason.NO_PROMPT),
    ("trl-unpaired", {"prompt": "a", "completion": "b", "label": 1}, Reason.WRONG_FIELD),
    ("nemo-rl", {"context": ASKED_ROWS, "completions": ranked(0, 0)}, Reason.TIE),
    ("helpsteer3", {"context": "a", "response1": "b", "response2": "c", "overall_preference": 0}, Reason.TIE),
    (
        "nova",
        {"messages": [{"role": "user", "content": [{"image": {}}]}, {"role": "assistant", "candidates": []}]},
        Reason.NOT_TEXT,
    ),
    ("nova", {"messages": [{"role": "user", "content": [{"text": "a"}]}]}, Reason.NOT_A_PAIR),
    ("nova", {"toolConfig": {"tools": [{}]}, "messages": [labelled("preferred", "non-preferred")]}, Reason.TOOLS),
    ("gemini", {"tools": [{"functionDeclarations": []}], "contents": [], "completions": scored(1, 0)}, Reason.TOOLS),
    ("gemini", {"contents": [{"role": "user", "parts": [{"functionCall": {}}]}], "completions": []}, Reason.NOT_TEXT),
    ("hh", {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: x\n\nAssistant: c"}, Reason.DIFFERENT_PROMPTS),
    ("hh", {"chosen": "Paris", "rejected": "Rome"}, Reason.WRONG_FIELD),
    (
        "ultrafeedback",
        {"prompt": "x", "chosen": [*ASKED_ROWS, GOOD_ROW], "rejected": [*ASKED_ROWS, BAD_ROW]},
        Reason.DIFFERENT_PROMPTS,
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "observation", "value": "x"}], "chosen": GOOD, "rejected": BAD},
        Reason.WRONG_MESSAGE,
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "<image>?"}], "chosen": GOOD, "rejected": BAD, "images": ["a"]},
        Reason.NOT_TEXT,
    ),
    ("alpaca", {"instruction": "a", "chosen": "b", "rejected": "c", "history": ["x"]}, Reason.WRONG_FIELD),
    ("swift", {"messages": [*ASKED_ROWS, GOOD_ROW], "rejected_response": None}, Reason.NOT_A_PAIR),
]


@pytest.mark.parametrize(("name", "row", "reason"), REFUSED, ids=[f"{name}-{reason}" for name, _, reason in REFUSED])
def test_a_row_that_cannot_be_kept_whole_is_refused_with_its_reason(name: str, row: Row, reason: Reason) -> None:
    with pytest.raises(Refused) as refused:
        FORMATS[name].read(row)
    assert refused.value.reason is reason
    assert refused.value.detail


def test_a_refusal_never_quotes_what_somebody_wrote() -> None:
    for role, content in (("robot-secret", "secret"), ("user", ["secret"]), ("user", 7)):
        with pytest.raises(Refused) as refused:
            FORMATS["trl"].read({"prompt": [{"role": role, "content": content}], "chosen": [GOOD_ROW], "rejected": [BAD_ROW]})
        assert "secret" not in refused.value.detail


def test_text_is_kept_code_point_by_code_point() -> None:
    odd = " \r\n\u2028e\u0301\u00e9\ufeff\u0000\U0001f468\u200d\U0001f469 "
    row = {"messages": [m("user", odd), m("assistant", odd + "!")], "rejected_message": m("assistant", odd)}
    [pair] = FORMATS["openpipe"].read(row)
    assert pair.prompt == (Message(role="user", content=odd),)
    assert pair.chosen == Message(role="assistant", content=odd + "!")  # type: ignore[union-attr]  # OpenPipe has pairs only


def test_the_empty_fields_that_apis_answer_with_change_nothing() -> None:
    reply = {**GOOD_ROW, "refusal": None, "annotations": [], "tool_calls": [], "audio": None}
    row = {"messages": [*CHAT_ROWS, reply], "rejected_message": BAD_ROW, "tools": [], "images": []}
    assert FORMATS["openpipe"].read(row) == [*pair()]


@pytest.mark.parametrize(
    "other", [{"rejected_response": BAD}, {"rejected_messages": [*ASKED_ROWS, BAD_ROW]}], ids=["response", "messages"]
)
def test_a_system_prompt_beside_ms_swifts_messages_is_one_of_them(other: Row) -> None:
    row = {"messages": [*ASKED_ROWS, GOOD_ROW], "system": SYSTEM, **other}
    assert FORMATS["swift"].read(row) == [*pair()]


def test_a_transcript_keeps_everything_but_its_marks() -> None:
    text = "\n\nHuman:  two spaces\nAssistant: no mark\n\nHuman:\n\nAssistant:"
    [pair] = FORMATS["hh"].read({"chosen": text + " a", "rejected": text + "  b"})
    assert [message.content for message in pair.prompt] == [" two spaces\nAssistant: no mark", ""]  # type: ignore[union-attr]
    assert (pair.chosen.content, pair.rejected.content) == ("a", " b")  # type: ignore[union-attr]


def test_each_preferred_candidate_is_chosen_over_each_other() -> None:
    candidates = [
        {"content": [{"text": text}], "preferenceLabel": label}
        for text, label in zip("abcd", ["preferred", "non-preferred"] * 2, strict=True)
    ]
    row = {"messages": [{"role": "user", "content": [{"text": QUESTION}]}, {"role": "assistant", "candidates": candidates}]}
    pairs = FORMATS["nova"].read(row)
    assert [(pair.chosen.content, pair.rejected.content) for pair in pairs] == [("a", "b"), ("a", "d"), ("c", "b"), ("c", "d")]  # type: ignore[union-attr]
