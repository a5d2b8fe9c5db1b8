"""Which conversations are held out: no round ever trains on them."""

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Callable
from typing import Literal

from sqlmodel import Session

from ingest.events import Message, Prompt
from ingest.settings import HoldoutSettings, WrongSetting
from pairing.rows import insert_new
from pairing.tables import HoldoutInForce

_NUMBER = re.compile(r"\d+")
Split = Literal["train", "holdout"]
Splitter = Callable[[Prompt], Split]


class HoldoutChanged(Exception):
    """The holdout key or share is not the one by which pairs were split so far. Stop: a person decides."""


def split_of(prompt: Prompt, key: bytes, share: float) -> Split:
    """The side of a conversation: the same for all its turns, and for variants that differ in numbers, case or spaces.

    Decided by the HMAC-SHA256 of the first user message under the key.
    """
    digest = hmac.digest(key, _opening(prompt).encode(), hashlib.sha256)
    return "holdout" if int.from_bytes(digest[:8], "big") < share * 2**64 else "train"


def splitter(settings: HoldoutSettings) -> Splitter:
    """split_of by the settings.

    Raises:
        WrongSetting: there is no key.
    """
    key, share = _key(settings), settings.share
    return lambda prompt: split_of(prompt, key, share)


def keep_holdout(session: Session, settings: HoldoutSettings) -> None:
    """Remember what splits the conversations, or see that it is what was remembered.

    Raises:
        HoldoutChanged: it is not.
        WrongSetting: there is no key.
    """
    fingerprint, share = hashlib.sha256(b"holdout:" + _key(settings)).hexdigest(), settings.share
    insert_new(session, HoldoutInForce, [{"id": 1, "key_fingerprint": fingerprint, "share": share}])
    kept = session.get_one(HoldoutInForce, 1)
    if kept.key_fingerprint != fingerprint:
        raise HoldoutChanged(
            "holdout.key is not the key that this database was started with: conversations that rounds trained on would be "
            "held out. Put the old key back, or start with an empty database."
        )
    if kept.share != share:
        raise HoldoutChanged(
            f"holdout.share was {kept.share} when this database was started and must not change: set it back, or start with "
            "an empty database."
        )


def _key(settings: HoldoutSettings) -> bytes:
    if settings.key is None:
        raise WrongSetting("Setting holdout.key is missing: run `make setup`, which makes one and keeps it.")
    return settings.key.get_secret_value().encode()


def _opening(prompt: Prompt) -> str:
    text = prompt if isinstance(prompt, str) else _first_user_message(prompt)
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _NUMBER.sub("0", " ".join(folded.split()))


def _first_user_message(messages: tuple[Message, ...]) -> str:
    opening = next((message for message in messages if message.role == "user"), messages[0])
    if isinstance(opening.content, str):
        return opening.content
    return " ".join(part.text for part in opening.content or ())
