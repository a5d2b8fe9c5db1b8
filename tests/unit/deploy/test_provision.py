import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deploy.provision import provision
from ingest.database import Database
from ingest.keys import KeyRing
from ingest.settings import load_settings


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("WHETSTONE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("WHETSTONE_CONFIG", str(tmp_path / "none.toml"))
    load_settings.cache_clear()
    yield tmp_path
    load_settings.cache_clear()


def test_an_installation_made_before_there_were_criteria_keys_gets_one_and_keeps_its_secrets(directory: Path) -> None:
    provision()
    file = directory / "secrets.toml"
    before = tomllib.loads(file.read_text())
    file.write_text("\n".join(line for line in file.read_text().splitlines() if "criteria_key" not in line))
    load_settings.cache_clear()
    made = provision().trainer.criteria_key
    after = tomllib.loads(file.read_text())
    assert made is not None
    assert (after["holdout"], after["trainer"]["gateway_key"]) == (before["holdout"], before["trainer"]["gateway_key"])
    with closing(Database(load_settings().database_url)) as database:
        assert KeyRing(database).authenticate(f"Bearer {made.get_secret_value()}").scopes == {"inference", "criterion"}
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_set_up_done_again_changes_nothing(directory: Path) -> None:
    provision()
    before = (directory / "secrets.toml").read_text(), (directory / "keys.json").read_text()
    provision()
    assert before == ((directory / "secrets.toml").read_text(), (directory / "keys.json").read_text())
