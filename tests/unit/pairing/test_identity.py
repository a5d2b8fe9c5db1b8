import pytest

from ingest.events import Message
from pairing.identity import reply_json


@pytest.mark.parametrize("as_message", [True, False])
def test_text_and_an_assistants_message_that_says_it_are_the_same_reply(as_message: bool) -> None:
    assert reply_json("Hello", as_message) == reply_json(Message(role="assistant", content="Hello"), as_message)


def test_a_reply_that_is_more_than_text_stays_a_message() -> None:
    spoken = Message(role="assistant", content="Hello", name="bot")
    assert reply_json(spoken, as_message=False) == '{"content":"Hello","name":"bot","role":"assistant"}'
