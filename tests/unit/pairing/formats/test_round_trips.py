"""What a format writes it reads again as the same pair, or it says why it cannot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trl.data_utils import extract_prompt

from ingest.events import FunctionCall, Message, TextPart, ToolCall
from pairing.formats import FORMATS, WRITTEN
from pairing.formats.values import Entry, Example, Preference, Reason, Refused, example, preference
from pairing.transfer.entries import entries
from pairing.transfer.source import open_source
from pairing.transfer.target import open_target
from tests.unit.pairing.formats.rows import ASKED, BAD, CALLED, CHAT, GOOD, QUESTION, TOOL

texts = st.text() | st.sampled_from(
    ["", " ", "\u2028", "\ufeff", "\x00", "\r\n", "a\u0301", "\n\nHuman: x", "\U0001f468\u200d\U0001f469"]
)
parts = st.lists(texts.map(lambda text: TextPart(type="text", text=text)), max_size=3).map(tuple)
names = st.none() | st.just("ann")
functions = st.builds(FunctionCall, name=st.just("weather"), arguments=st.just('{"city": "Par\\u0069s"}') | texts)
calls = st.lists(st.builds(ToolCall, id=st.none() | st.just("c1"), function=functions), min_size=1, max_size=2).map(tuple)
replies = st.builds(Message, role=st.just("assistant"), content=texts | parts, name=names) | st.builds(
    Message, role=st.just("assistant"), content=st.none() | texts, tool_calls=calls
)
results = st.builds(Message, role=st.just("tool"), content=texts, tool_call_id=st.just("c1"))
others = st.builds(Message, role=st.sampled_from(["system", "developer", "user"]), content=texts | parts, name=names)
prompts = texts | st.lists(others | replies | results, min_size=1, max_size=4).map(tuple)
json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | texts, lambda held: st.lists(held) | st.dictionaries(texts, held), max_leaves=5
)
tools = st.none() | st.lists(st.dictionaries(texts, json_values, max_size=2).map(lambda more: {**TOOL, **more}), max_size=2)


@st.composite
def preferences(draw: Callable[[Any], Any]) -> Preference:
    prompt = draw(prompts)
    chosen, rejected = draw(texts | replies), draw(texts | replies)
    try:
        return preference(prompt, chosen, rejected, draw(tools))
    except Refused:
        return preference(prompt, "one", "other", draw(tools))


@st.composite
def examples(draw: Callable[[Any], Any]) -> Example:
    prompt = draw(prompts)
    return example(prompt, draw(texts | replies), draw(st.booleans()), draw(tools))


def through_json(row: dict[str, Any]) -> Any:
    return json.loads(json.dumps(row, ensure_ascii=False).encode())


@pytest.mark.parametrize("name", WRITTEN)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(entry=preferences() | examples())
def test_what_a_format_holds_it_gives_back(name: str, entry: Entry) -> None:
    found = FORMATS[name]
    assert found.write
    try:
        row = found.write(entry)
    except Refused:
        return
    assert list(found.read(through_json(row))) == [entry]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ""])
@pytest.mark.parametrize("name", ["trl", "trl-unpaired"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(sent=st.lists(preferences() | examples(), max_size=10))
def test_every_kind_of_file_gives_back_what_was_written(name: str, suffix: str, sent: list[Entry], tmp_path: Path) -> None:
    place, kept = tmp_path / f"written{suffix}", []
    format_name = name if suffix else "hf"
    wanted = Example if name == "trl-unpaired" and suffix else Preference
    with open_target(str(place), format_name) as target:
        for entry in (one for one in sent if isinstance(one, wanted)):
            try:
                target.add(entry)
            except Refused:
                continue
            kept.append(entry)
    with open_source(str(place)) as source:
        read = [one for found in entries(source.lines, name if suffix else "trl") for one in found.entries]  # type: ignore[union-attr]
    place.unlink() if place.is_file() else None
    if place.is_dir():
        [file.unlink() for file in place.glob("data/*")]  # type: ignore[func-returns-value]
        (place / "data").rmdir()
    assert read == kept


PLAIN = preference(CHAT, GOOD, BAD)
CONVERSATIONS = [name for name in WRITTEN if name not in ("trl-standard", "trl-unpaired")]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_plain_conversation_fits_every_format_of_conversations(name: str) -> None:
    found = FORMATS[name]
    assert found.write
    assert list(found.read(through_json(found.write(PLAIN)))) == [PLAIN]


NEMO = {"nemo-aligner", "nemo-rl"}
TEXT_ONLY = {"together", "nemo-aligner", "nova", "gemini"}
PART = TextPart(type="text", text=GOOD)
UNFIT: list[tuple[Entry, Reason, set[str]]] = [
    (preference(CHAT, GOOD, BAD, [TOOL]), Reason.TOOLS, {"fireworks-cookbook", "trl-standard", *NEMO, "nova", "gemini"}),
    (preference((*ASKED, *CALLED), GOOD, BAD), Reason.TOOL_CALLS, {"together", "nova", "gemini"}),
    (preference(ASKED, CALLED[0], BAD), Reason.TOOL_CALLS, {"together", "nemo-aligner", "nova", "gemini"}),
    (preference((*ASKED, *ASKED), GOOD, BAD), Reason.ROLE, {"together"}),
    (preference((*ASKED, Message(role="assistant", content="So?")), GOOD, BAD), Reason.ROLE, {"together", "gemini"}),
    (preference((Message(role="user", content=QUESTION, name="ann"),), GOOD, BAD), Reason.NAME, {"nova", "gemini"}),
    (preference((*ASKED, Message(role="developer", content="Short!")), GOOD, BAD), Reason.ROLE, {"together", "nova", "gemini"}),
    (
        preference(QUESTION, GOOD, BAD),
        Reason.TEXT_PROMPT,
        {"openpipe", "openai", "azure", "fireworks", "together", "trl", "nemo-rl", "nova", "gemini"},
    ),
    *((preference(ASKED, Message(role="assistant", content=parts), BAD), Reason.PARTS, {*TEXT_ONLY}) for parts in ((), (PART,))),
    (preference(ASKED, Message(role="assistant", content=(PART, PART)), BAD), Reason.PARTS, {"together", "nemo-aligner"}),
    (PLAIN, Reason.CONVERSATION, {"trl-standard"}),
    (PLAIN, Reason.PAIRED, {"trl-unpaired"}),
    (example(ASKED, GOOD, True), Reason.UNPAIRED, set(WRITTEN) - {"trl-unpaired"}),
]


@pytest.mark.parametrize(("entry", "reason", "formats"), UNFIT, ids=[f"{reason}-{n}" for n, (_, reason, _) in enumerate(UNFIT)])
def test_what_a_format_cannot_hold_it_refuses_and_nothing_else(entry: Entry, reason: Reason, formats: set[str]) -> None:
    refusing = set()
    for name in WRITTEN:
        try:
            FORMATS[name].write(entry)  # type: ignore[misc]  # these are all written
        except Refused as refused:
            if refused.reason is reason:
                refusing.add(name)
    assert refusing == formats


@settings(max_examples=300, deadline=None)
@given(common=st.text("ab ", min_size=1), chosen=st.text("ab "), rejected=st.text("cd "))
def test_an_implicit_prompt_ends_where_trl_ends_it(common: str, chosen: str, rejected: str) -> None:
    one, other = f"{common}{chosen}.", f"{common}{rejected}!"
    theirs = extract_prompt({"chosen": one, "rejected": other})
    row = {"chosen": one, "rejected": other}
    if not theirs["prompt"]:
        with pytest.raises(Refused):
            FORMATS["trl-standard"].read(row)
        return
    [pair] = FORMATS["trl-standard"].read(row)
    assert {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected} == theirs  # type: ignore[union-attr]  # a pair


def test_held_out_pairs_are_openpipes_test_split() -> None:
    held_out = preference(CHAT, GOOD, BAD, tags={"split": "holdout"})
    assert FORMATS["openpipe"].write(held_out)["split"] == "TEST"  # type: ignore[misc]  # it is written


def test_tool_calls_survive_parquet(tmp_path: Path) -> None:
    sent = preference((*ASKED, *CALLED), CALLED[0], BAD, [TOOL])
    with open_target(str(tmp_path / "x.parquet"), "trl") as target:
        target.add(sent)
    with open_source(str(tmp_path / "x.parquet")) as source:
        assert [found.entries for found in entries(source.lines, None)] == [(sent,)]
