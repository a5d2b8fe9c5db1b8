"""Every setting as `whetstone config` shows it, read off the definitions in `ingest.settings`."""

import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from ingest.settings import Settings, config_file, secrets_file

MASK = "********"
_BOUNDS = {
    "ge": "at least {}",
    "gt": "above {}",
    "le": "at most {}",
    "lt": "below {}",
    "min_length": "{} or more long",
    "pattern": "matches {}",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One setting: its name in whetstone.toml, and what it is now."""

    name: str
    value: Any
    source: str
    range: str
    description: str


def rows(settings: Settings) -> list[Row]:
    """Every setting, in the order of its definition."""
    return list(_rows(settings, "", _source))


def _rows(section: BaseModel, prefix: str, source: Callable[[str], str]) -> Iterator[Row]:
    for name, field in type(section).model_fields.items():
        path, value = f"{prefix}{name}", getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _rows(value, f"{path}.", source)
        elif isinstance(value, dict):
            for key, one in value.items():
                yield from _rows(one, f"{path}.{key}.", source)
        else:
            yield Row(path, _plain(value), source(path), _range(field), field.description or "")


def _source(path: str) -> str:
    """Where the value comes from: the same order in which the settings are read."""
    parts = path.split(".")
    variable = f"WHETSTONE_{'_'.join(parts[:2])}".upper()
    for name in (variable, f"WHETSTONE_{parts[0]}".upper()):
        if name in {variable.upper() for variable in os.environ} and (name == variable or len(parts) > 1):
            return f"environment ({name})"
    files = (secrets_file(), config_file())
    return next((file.name for file in files if _holds(_toml(file), parts)), "default")


def _toml(file: Path) -> Mapping[str, Any]:
    return tomllib.loads(file.read_text()) if file.exists() else {}


def _holds(table: Any, parts: list[str]) -> bool:
    for part in parts:
        if not isinstance(table, Mapping) or part not in table:
            return False
        table = table[part]
    return True


def _plain(value: Any) -> Any:
    match value:
        case SecretStr():
            return MASK
        case Path():
            return str(value)
        case tuple():
            return [one.model_dump(exclude_defaults=True) if isinstance(one, BaseModel) else one for one in value]
        case _:
            return value


def _range(field: FieldInfo) -> str:
    choices = [choice for kind in (field.annotation, *get_args(field.annotation)) for choice in _choices(kind)]
    if choices:
        return " | ".join(map(str, choices))
    bounds = [(text, getattr(one, key, None)) for one in field.metadata for key, text in _BOUNDS.items()]
    return ", ".join(text.format(bound) for text, bound in bounds if bound is not None)


def _choices(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()
