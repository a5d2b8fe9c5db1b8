"""What a client may ask of the gateway."""

import json
from typing import Any

import pytest

from serving.gateway.errors import InvalidRequest
from serving.gateway.request import Ask, parse

QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]


def ask(headers: dict[str, str] | None = None, **body: Any) -> Ask:
    return parse(json.dumps({"model": "summarise", "messages": QUESTION, **body}).encode(), headers or {})


def test_sampling_parameters_reach_the_engine_as_they_were_sent() -> None:
    parsed = ask(temperature=0.7, n=4, stop=["\n"], logit_bias={"5": -1}, top_k=20, stream=True)
    sent = parsed.for_engine("summarise-r000001")
    assert sent == {
        "model": "summarise-r000001",
        "messages": QUESTION,
        "temperature": 0.7,
        "n": 4,
        "stop": ["\n"],
        "logit_bias": {"5": -1},
        "top_k": 20,
        "stream": True,
    }
    assert parsed.candidates == 4


def test_sampling_is_recorded_as_flat_values() -> None:
    parsed = ask(temperature=0.7, stop=["a", "b"], stream=True, tools=[{"type": "function", "function": {"name": "f"}}])
    assert parsed.sampling() == {"stop": '["a","b"]', "temperature": 0.7}


@pytest.mark.parametrize(
    "name", ["priority", "chat_template", "lora_request", "kv_transfer_params", "add_special_tokens", "functions"]
)
def test_a_parameter_that_must_not_reach_the_engine_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest, match=name) as refusal:
        ask(**{name: 1})
    assert refusal.value.param == name


def test_parameters_without_effect_here_are_taken_and_not_sent_on() -> None:
    assert "store" not in ask(store=True, metadata={"a": "b"}, user="u-1").for_engine("base")


@pytest.mark.parametrize(
    "part", [{"type": "image_url", "image_url": {"url": "https://x"}}, {"type": "input_audio", "input_audio": {}}]
)
def test_images_and_audio_are_refused_clearly(part: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=rf"{part['type']}.*not supported, only text is"):
        ask(messages=[{"role": "user", "content": [part]}])


def test_a_spoken_reply_is_refused_clearly() -> None:
    with pytest.raises(InvalidRequest, match="audio is not supported, only text is") as refusal:
        ask(messages=[*QUESTION, {"role": "assistant", "content": None, "audio": {"id": "a-1"}}])
    assert refusal.value.param == "messages[1].audio"


def test_a_wrong_part_of_text_is_named_in_the_clients_own_words() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        ask(messages=[{"role": "user", "content": [{"type": "text", "text": 5}]}])
    assert refusal.value.param == "messages[0].content[0].text"


def test_a_reply_that_a_client_sends_back_as_it_came_is_understood() -> None:
    reply = {
        "role": "assistant",
        "content": "Because.",
        "refusal": None,
        "annotations": [],
        "reasoning": "hm",
        "tool_calls": None,
    }
    parsed = ask(messages=[*QUESTION, reply, {"role": "user", "content": "Shorter"}])
    assert parsed.for_engine("base")["messages"][1] == {"role": "assistant", "content": "Because."}


def test_tool_calls_put_together_from_a_stream_are_understood() -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    parsed = ask(messages=[*QUESTION, {"role": "assistant", "content": None, "tool_calls": [call]}])
    assert parsed.for_engine("base")["messages"][1]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


def test_an_unknown_field_of_a_message_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"messages\[0\]\.cache_control"):
        ask(messages=[{**QUESTION[0], "cache_control": {"type": "ephemeral"}}])


def test_the_header_names_the_user_before_the_body_does() -> None:
    assert ask(user="body").user == "body"
    assert ask({"x-whetstone-user": "header"}, user="body").user == "header"
    with pytest.raises(InvalidRequest, match="user"):
        ask(user="a\nb")


def test_evaluation_is_marked_by_its_header() -> None:
    assert ask().purpose == "traffic"
    assert ask({"x-whetstone-purpose": "evaluation"}).purpose == "evaluation"
    with pytest.raises(InvalidRequest, match="Purpose"):
        ask({"x-whetstone-purpose": "fun"})


@pytest.mark.parametrize("n", [0, 129, 1.5, True, "2"])
def test_a_number_of_candidates_that_cannot_be_is_refused(n: object) -> None:
    with pytest.raises(InvalidRequest, match="n must be"):
        ask(n=n)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{",
        b'{"model": "t", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "t", "temperature": NaN}',
        b"[" * 100_000,
        b'{"a": "\xff"}',
    ],
)
def test_a_body_that_could_not_be_stored_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="body"):
        parse(raw, {})


@pytest.mark.parametrize(
    "body", [{"model": None}, {"model": 5}, {"messages": []}, {"messages": "hi"}, {"messages": [5]}, {"stream": "yes"}]
)
def test_a_field_of_another_type_is_refused_by_name(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        ask(**body)
    assert (refusal.value.param or "").startswith(next(iter(body)))
