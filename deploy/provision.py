"""What an installation needs before its first start: secrets, tables, keys. Done again, it changes nothing."""

import json
import os
import secrets
import tomllib
from pathlib import Path

from pydantic import SecretStr
from sqlmodel import Session

from deploy.migrations import upgrade
from ingest.database import Database
from ingest.keys import SCOPES, KeyRing, Scope, create_key
from ingest.problems import Problem
from ingest.settings import Settings, load_settings, secrets_file

_APP: tuple[Scope, ...] = ("inference", "feedback", "carried-generation")
_OF_TRAINER: dict[str, tuple[str, tuple[Scope, ...]]] = {
    "gateway_key": ("rounds", ("inference", "admin")),
    "criteria_key": ("criteria", ("inference", "criterion")),
}
"""Keys that the trainer uses itself: by their setting, name and scopes."""


def provision() -> Settings:
    """Make what is missing; returns the settings with the secrets.

    Raises:
        WrongSetting: the settings, or the secrets of an earlier set-up, are wrong.
    """
    settings = load_settings()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    upgrade(settings.database_url)
    database = Database(settings.database_url)
    try:
        _make_keys(database, settings.data_dir / "keys.json")
        _make_secrets(database, settings)
    finally:
        database.close()
    load_settings.cache_clear()
    return load_settings()


def _make_keys(database: Database, file: Path) -> None:
    """A key for the user's app and one for the user, kept readable for the owner of the file."""
    kept: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    with database.begin() as session:
        keys = {
            name: kept[name] if _is_known(database, kept.get(name)) else create_key(session, name, ["*"], scopes)
            for name, scopes in {"app": _APP, "admin": SCOPES}.items()
        }
        if keys != kept:
            _write_private(file, json.dumps(keys, indent=2) + "\n")


def _make_secrets(database: Database, settings: Settings) -> None:
    file = secrets_file()
    kept = tomllib.loads(file.read_text()) if file.exists() else {}
    made = {
        section: {"key": key}
        for section, configured in {"holdout": settings.holdout.key, "erasure": settings.erasure.key}.items()
        if (key := kept.get(section, {}).get("key") or (None if configured else secrets.token_urlsafe(32)))
    }
    with database.begin() as session:
        made["trainer"] = _trainer_keys(database, session, settings)
        if made != kept:
            _write_private(file, "# Made by the set-up. The holdout key and the erasure key must never change.\n" + _toml(made))


def _trainer_keys(database: Database, session: Session, settings: Settings) -> dict[str, str]:
    keys: dict[str, str] = {}
    for setting, (name, scopes) in _OF_TRAINER.items():
        secret: SecretStr | None = getattr(settings.trainer, setting)
        kept = secret.get_secret_value() if secret else None
        keys[setting] = kept if kept and _is_known(database, kept) else create_key(session, name, ["*"], scopes)
    return keys


def _is_known(database: Database, key: str | None) -> bool:
    """Whether the database knows the key: it may have been made anew since the key was written down."""
    try:
        KeyRing(database).authenticate(f"Bearer {key}")
    except Problem:
        return False
    return True


def _toml(tables: dict[str, dict[str, str]]) -> str:
    return "".join(f"\n[{table}]\n" + "".join(f'{k} = "{v}"\n' for k, v in rows.items()) for table, rows in tables.items())


def _write_private(file: Path, text: str) -> None:
    draft = file.with_name(file.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    draft.replace(file)
