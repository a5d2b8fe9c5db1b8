"""JSON that means one thing: each key once, finite numbers, whole characters."""

import json
from math import isfinite
from typing import Any, NoReturn


class NotJson(Exception):
    """The text is not that. The message says why."""


def decode(text: bytes) -> Any:
    """What the text says.

    Raises:
        NotJson: it is not JSON in UTF-8, has a key twice, a number that is none, or half a character.
    """
    try:
        value = _DECODER.decode(text.decode())
        if b"\\ud" in text or b"\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()  # an escape may be half of a pair, which is no text
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} at column {error.colno}.") from None
    except UnicodeDecodeError:
        raise NotJson("Not UTF-8.") from None
    except UnicodeEncodeError:
        raise NotJson("Half of a surrogate pair stands for no character.") from None
    except (RecursionError, ValueError):
        raise NotJson("Nested too deeply, or a number is too long.") from None
    return value


def is_json(value: Any, levels: int) -> bool:
    """Whether JSON can say it, with so many lists and objects in each other. Parquet knows dates and bytes too."""
    if isinstance(value, dict):
        return levels > 0 and all(isinstance(name, str) and is_json(held, levels - 1) for name, held in value.items())
    if isinstance(value, list):
        return levels > 0 and all(is_json(held, levels - 1) for held in value)
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and isfinite(value))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotJson("An object has a key twice.")
    return found


def _no_constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is no number that JSON has.")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
