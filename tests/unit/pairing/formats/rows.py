"""A row of each format as its documentation shows it, and what is read from it."""

import json
from typing import Any

from ingest.events import Message, Reply
from pairing.formats.values import Entry, Row, example, preference

QUESTION, GOOD, BAD = "What is the capital of France?", "Paris.", "I do not know."
SYSTEM = "You are a geography bot."
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def said(role: Any, content: str | None = None, **more: Any) -> Message:
    return Message(role=role, content=content, **more)


def m(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


CHAT = (said("system", SYSTEM), said("user", QUESTION))
ASKED = (said("user", QUESTION),)
CHAT_ROWS, ASKED_ROWS = [m("system", SYSTEM), m("user", QUESTION)], [m("user", QUESTION)]
GOOD_ROW, BAD_ROW = m("assistant", GOOD), m("assistant", BAD)


def pair(prompt: Any = CHAT, chosen: Reply = GOOD, rejected: Reply = BAD, **more: Any) -> list[Entry]:
    return [preference(prompt, chosen, rejected, **more)]


def call(arguments: Any) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}}


CALLS = {"role": "assistant", "tool_calls": [call('{"city": "Paris"}')]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "sunny"}
CALLED = (Message.model_validate(CALLS), Message.model_validate(RESULT))

DOCUMENTED: list[tuple[str, Row, list[Entry]]] = [
    (
        "openpipe",
        {
            "messages": [*CHAT_ROWS, GOOD_ROW],
            "rejected_message": BAD_ROW,
            "split": "TRAIN",
            "tools": [TOOL],
            "tool_choice": "auto",
            "metadata": {"prompt_id": "p1"},
        },
        pair(tools=[TOOL], tags={"split": "TRAIN", "tool_choice": "auto", "prompt_id": "p1"}),
    ),
    (
        "openai",
        {
            "input": {"messages": ASKED_ROWS, "tools": [], "parallel_tool_calls": True},
            "preferred_output": [GOOD_ROW],
            "non_preferred_output": [BAD_ROW],
        },
        pair(ASKED, tags={"parallel_tool_calls": "true"}),
    ),
    (
        "openai",
        {"input": {"messages": ASKED_ROWS}, "preferred_completion": [GOOD_ROW], "non_preferred_completion": [BAD_ROW]},
        pair(ASKED),
    ),
    (  # Azure: a call of a tool and its result on both sides, alike, before the reply
        "openai",
        {
            "input": {"messages": CHAT_ROWS, "tools": [TOOL]},
            "preferred_output": [CALLS, RESULT, GOOD_ROW],
            "non_preferred_output": [CALLS, RESULT, BAD_ROW],
        },
        pair((*CHAT, *CALLED), tools=[TOOL]),
    ),
    (
        "fireworks-cookbook",
        {"chosen": {"messages": [*ASKED_ROWS, GOOD_ROW]}, "rejected": {"messages": [*ASKED_ROWS, BAD_ROW]}},
        pair(ASKED),
    ),
    (
        "fireworks-cookbook",
        {
            "samples": [
                {"messages": [*ASKED_ROWS, BAD_ROW], "score": 0.0},
                {"messages": [*ASKED_ROWS, GOOD_ROW], "evals": {"score": 1.0}},
            ]
        },
        pair(ASKED),
    ),
    ("fireworks-cookbook", {"input": QUESTION, "preferred_output": GOOD, "non_preferred_output": BAD}, pair(QUESTION)),
    ("trl", {"prompt": ASKED_ROWS, "chosen": [GOOD_ROW], "rejected": [BAD_ROW]}, pair(ASKED)),
    ("trl", {"chosen": [*CHAT_ROWS, GOOD_ROW], "rejected": [*CHAT_ROWS, BAD_ROW]}, pair()),
    (
        "trl",
        {
            "prompt": ASKED_ROWS,
            "chosen": [GOOD_ROW],
            "rejected": [{"role": "assistant", "content": None, "tool_calls": [call({"city": "Paris"})]}],
            "tools": json.dumps([TOOL]),
            "chat_template_kwargs": {"enable_thinking": False},
        },
        pair(ASKED, GOOD, CALLED[0], tools=[TOOL], tags={"chat_template_kwargs": '{"enable_thinking": false}'}),
    ),
    (
        "trl-standard",
        {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
        pair("The sky is", " blue.", " green."),
    ),
    ("trl-standard", {"chosen": "The sky is blue.", "rejected": "The sky is green."}, pair("The sky is", " blue.", " green.")),
    ("trl-standard", {"chosen": "It is blue.", "rejected": "It is black."}, pair("It is bl", "ue.", "ack.")),
    (
        "trl-unpaired",
        {"prompt": ASKED_ROWS, "completion": [GOOD_ROW], "label": True},
        [example(ASKED, GOOD, True)],
    ),
    (
        "trl-unpaired",
        {"prompt": "The sky is", "completion": " green.", "label": False},
        [example("The sky is", " green.", False)],
    ),
    (
        "nemo-aligner",
        {"prompt": QUESTION, "chosen_response": GOOD, "rejected_response": BAD, "chosen_reward": 1, "rejected_reward": 0},
        pair(QUESTION, tags={"chosen_reward": "1", "rejected_reward": "0"}),
    ),
    ("nemo-aligner", {"prompt": CHAT_ROWS, "chosen_response": GOOD, "rejected_response": BAD}, pair()),
    (
        "nemo-rl",
        {
            "context": CHAT_ROWS,
            "completions": [
                {"rank": 1, "completion": [BAD_ROW]},
                {"rank": 0, "completion": [GOOD_ROW]},
                {"rank": 2, "completion": [m("assistant", "Rome.")]},
            ],
        },
        [*pair(), *pair(rejected="Rome.")],
    ),
    (
        "helpsteer3",
        {
            "domain": "general",
            "context": ASKED_ROWS,
            "response1": BAD,
            "response2": GOOD,
            "overall_preference": 2,
            "individual_preference": [{"score": 2}],
        },
        pair(ASKED, tags={"domain": "general", "overall_preference": "2", "individual_preference": '[{"score": 2}]'}),
    ),
    (
        "nova",
        {
            "system": [{"text": SYSTEM}],
            "messages": [
                {"role": "user", "content": [{"text": QUESTION}]},
                {
                    "role": "assistant",
                    "candidates": [
                        {"content": [{"text": BAD}], "preferenceLabel": "non-preferred"},
                        {"content": [{"text": GOOD}], "preferenceLabel": "preferred"},
                    ],
                },
            ],
        },
        pair(),
    ),
    (
        "gemini",
        {
            "system_instruction": {"parts": [{"text": SYSTEM}]},
            "contents": [{"role": "user", "parts": [{"text": QUESTION}]}],
            "completions": [
                {"score": 1, "completion": {"role": "model", "parts": [{"text": GOOD}]}},
                {"score": 0, "completion": {"role": "model", "parts": [{"text": BAD}]}},
            ],
        },
        pair(),
    ),
    (
        "hh",
        {
            "chosen": f"\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: {QUESTION}\n\nAssistant: {GOOD}",
            "rejected": f"\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: {QUESTION}\n\nAssistant: {BAD}",
        },
        pair((said("user", "Hi"), said("assistant", "Hello!"), *ASKED)),
    ),
    (
        "ultrafeedback",
        {
            "prompt": QUESTION,
            "prompt_id": "ab12",
            "chosen": [*ASKED_ROWS, GOOD_ROW],
            "rejected": [*ASKED_ROWS, BAD_ROW],
            "messages": [*ASKED_ROWS, GOOD_ROW],
            "score_chosen": 8.5,
            "score_rejected": 2.0,
        },
        pair(ASKED, tags={"prompt_id": "ab12", "score_chosen": "8.5", "score_rejected": "2.0"}),
    ),
    ("axolotl", {"messages": CHAT_ROWS, "chosen": GOOD_ROW, "rejected": BAD_ROW}, pair()),
    (
        "axolotl",
        {"system": SYSTEM, "instruction": QUESTION, "chosen_response": GOOD, "rejected_response": BAD},
        pair(),
    ),
    ("axolotl", {"system": SYSTEM, "prompt": QUESTION, "chosen": GOOD, "rejected": BAD}, pair()),
    (
        "sharegpt",
        {
            "conversations": [{"from": "human", "value": QUESTION}],
            "chosen": {"from": "gpt", "value": GOOD},
            "rejected": {"from": "gpt", "value": BAD},
            "system": SYSTEM,
        },
        pair(),
    ),
    (
        "alpaca",
        {"instruction": "Translate.", "input": "Oui", "chosen": "Yes", "rejected": "No"},
        pair((said("user", "Translate.\nOui"),), "Yes", "No"),
    ),
    (
        "alpaca",
        {"instruction": QUESTION, "input": "", "chosen": GOOD, "rejected": BAD, "system": SYSTEM, "history": [["Hi", "Hello!"]]},
        pair((said("system", SYSTEM), said("user", "Hi"), said("assistant", "Hello!"), *ASKED)),
    ),
    ("swift", {"messages": [*CHAT_ROWS, GOOD_ROW], "rejected_response": BAD}, pair()),
    ("swift", {"messages": [*CHAT_ROWS, GOOD_ROW], "rejected_messages": [*CHAT_ROWS, BAD_ROW]}, pair()),
    ("orca", {"system": SYSTEM, "question": QUESTION, "chosen": GOOD, "rejected": BAD}, pair()),
    ("orca", {"system": "", "input": QUESTION, "chosen": GOOD, "rejected": BAD}, pair(ASKED)),
]
