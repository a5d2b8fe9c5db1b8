"""The formats of preference data that people have: rows to pairs, and pairs to rows. Pure."""

from collections.abc import Iterable, Mapping

from pairing.formats import blocks, community, fireworks, nemo, openai, openpipe, transcript, trl
from pairing.formats.format import Format
from pairing.formats.values import Row

FORMATS: Mapping[str, Format] = {
    found.name: found
    for module in (openpipe, openai, fireworks, trl, nemo, blocks, transcript, community)
    for found in module.FORMATS
}
READ = tuple(FORMATS)
WRITTEN = tuple(name for name, found in FORMATS.items() if found.write)


class Unclear(Exception):
    """The rows do not say what format they are in. The message names those that it may be: a person has to decide."""


def detect(rows: Iterable[Row]) -> Format:
    """The one format whose own fields are in every row that has any format's.

    Rows that no format claims do not count: they are refused one by one, with their reasons, when they are read.

    Raises:
        Unclear: there is none, or there are several.
    """
    found = [names for names in (claimants(row) for row in rows) if names]
    common = [name for name in FORMATS if all(name in names for names in found)] if found else []
    if len(common) == 1:
        return FORMATS[common[0]]
    if common:
        raise Unclear(f"The rows may be {' or '.join(common)}.")
    if found:
        named = [name for name in FORMATS if any(name in names for names in found)]
        raise Unclear(f"Some rows look like {', others like '.join(named)}.")
    raise Unclear(f"The rows look like no format that is known. Formats are {', '.join(READ)}.")


def claimants(row: Row) -> frozenset[str]:
    """The formats whose own fields the row has."""
    return frozenset(name for name, found in FORMATS.items() if found.claims(row))
