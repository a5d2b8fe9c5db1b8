"""All settings together, and where they are read from."""

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from ingest.settings.processes import (
    EngineSettings,
    GatewaySettings,
    IngestSettings,
    ModelSettings,
    PairingSettings,
    RolloutSettings,
    TrainerSettings,
)
from ingest.settings.section import TaskName, WrongSetting
from ingest.settings.stores import DatabaseSettings, ErasureSettings, HoldoutSettings, KafkaSettings
from ingest.settings.tasks import TaskSettings


class Settings(BaseSettings):
    """All settings of a Whetstone installation."""

    model_config = SettingsConfigDict(
        env_prefix="WHETSTONE_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
    )

    data_dir: Path = Field(Path("var"), description="Directory of everything that Whetstone keeps on this machine.")
    log: Literal["embedded", "kafka"] = Field("embedded", description="The event log: an SQLite file, or Apache Kafka.")
    partitions: int = Field(4, ge=1, le=1000, description="Partitions of the event log, when Whetstone makes it.")
    kafka: KafkaSettings = KafkaSettings()
    database: DatabaseSettings = DatabaseSettings()
    ingest: IngestSettings = IngestSettings()
    gateway: GatewaySettings = GatewaySettings()
    model: ModelSettings = ModelSettings()
    engine: EngineSettings = EngineSettings()
    holdout: HoldoutSettings = HoldoutSettings()
    erasure: ErasureSettings = ErasureSettings()
    pairing: PairingSettings = PairingSettings()
    trainer: TrainerSettings = TrainerSettings()
    rollout: RolloutSettings = RolloutSettings()
    tasks: dict[TaskName, TaskSettings] = Field({}, description="The tasks, by name.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, secrets_file()),
            TomlConfigSettingsSource(settings_cls, config_file()),
        )

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.data_dir.absolute()}/whetstone.db"

    @property
    def encrypts_users(self) -> bool:
        """Whether what users say is sealed before the event log has it. The embedded log loses single records instead."""
        return self.log == "kafka" and self.kafka.encrypt_users

    @property
    def engine_url(self) -> str:
        return self.engine.url or f"unix://{self.run_dir.absolute()}/vllm.sock"

    @property
    def gateway_url(self) -> str:
        return self.gateway.url or f"http://{self.gateway.host}:{self.gateway.port}"

    @property
    def ingest_url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.ingest.host, self.ingest.host)
        return self.ingest.url or f"http://{host}:{self.ingest.port}"

    @property
    def run_dir(self) -> Path:
        """Sockets, locks and process records: nothing that outlives the machine's start."""
        return self.data_dir / "run"

    @property
    def adapters_dir(self) -> Path:
        return self.data_dir / "adapters"

    @property
    def rounds_dir(self) -> Path:
        return self.data_dir / "rounds"

    @property
    def spool_dir(self) -> Path:
        return self.data_dir / "spool"

    @property
    def log_file(self) -> Path:
        """The embedded event log."""
        return self.data_dir / "log.db"


def config_file() -> Path:
    """The file that `WHETSTONE_CONFIG` names, else `whetstone.toml` in the working directory."""
    return Path(os.environ.get("WHETSTONE_CONFIG", "whetstone.toml"))


def secrets_file() -> Path:
    """Where the set-up writes the secrets that it makes. Never in version control."""
    configured = config_file()
    from_file = tomllib.loads(configured.read_text()).get("data_dir", "var") if configured.exists() else "var"
    return Path(os.environ.get("WHETSTONE_DATA_DIR", from_file)) / "secrets.toml"


@cache
def load_settings() -> Settings:
    """Read the settings once per process.

    Raises:
        WrongSetting: naming every setting that is wrong, and its allowed range.
    """
    try:
        return Settings()
    except tomllib.TOMLDecodeError as error:
        raise WrongSetting(f"{config_file()} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise WrongSetting("\n".join(_sentence(list(e["loc"]), e["msg"]) for e in error.errors())) from None


def _sentence(location: list[str | int], message: str) -> str:
    return f"Setting {'.'.join(map(str, location))}: {message}. `whetstone config` lists every setting and its range."
