"""Erased users are remembered by keyed hashes: without the key, nobody can tell from a tombstone whose it is."""

import hashlib
import hmac
from collections.abc import Callable

from ingest.settings import ErasureSettings, WrongSetting

Tombstone = Callable[[str, str], str]
"""From a task and a user to what is kept of them for ever."""


def tombstone(settings: ErasureSettings) -> Tombstone:
    """HMAC-SHA256, in hex, of task and user under the key.

    Raises:
        WrongSetting: there is no key.
    """
    key = erasure_key(settings)
    return lambda task, user: hmac.digest(key, f"{task}\0{user}".encode(errors="surrogatepass"), hashlib.sha256).hex()


def erasure_key(settings: ErasureSettings) -> bytes:
    """The key.

    Raises:
        WrongSetting: there is none.
    """
    if settings.key is None:
        raise WrongSetting("Setting erasure.key is missing: run `make setup`, which makes one and keeps it.")
    return settings.key.get_secret_value().encode()
