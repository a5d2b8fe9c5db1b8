"""Settings of where things are kept, and of the secrets that must never change."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from ingest.settings.section import Section


class KafkaSettings(Section):
    """The Apache Kafka that holds the event log when `log = "kafka"`."""

    bootstrap: str | None = Field(None, description="Brokers as HOST:PORT,HOST:PORT. Without it, KAFKA_HOME is started.")
    topic: str = Field("whetstone.events", pattern=r"^[A-Za-z0-9._-]{1,200}$", description="Topic of the event log.")
    group: str = Field("whetstone-pairing", min_length=1, description="Consumer group that shares out the partitions.")
    replication_factor: int = Field(1, ge=1, le=9, description="Replicas of the topic, when Whetstone makes it.")
    delivery_timeout_s: float = Field(10, gt=0, le=120, description="Give an append up, and answer 503, after this.")
    encrypt_users: bool = Field(
        False,
        description="Encrypt what each user's events say under a key of the user's own, destroyed by an erasure. Events without "
        "a user stay in clear.",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to talk to the brokers."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="SASL mechanism, with a SASL protocol."
    )
    sasl_username: str | None = Field(None, description="SASL user name.")
    sasl_password: SecretStr | None = Field(None, description="SASL password.")
    ssl_cafile: Path | None = Field(None, description="Certificates (PEM) that the brokers' are checked against.")
    ssl_certfile: Path | None = Field(None, description="Client certificate (PEM).")
    ssl_keyfile: Path | None = Field(None, description="Private key (PEM) of the client certificate.")


class DatabaseSettings(Section):
    """Where events, pairs, rounds and releases are kept."""

    url: str | None = Field(
        None,
        description="SQLAlchemy URL: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME. Default: SQLite in data_dir.",
    )
    pool_size: int = Field(5, ge=1, le=100, description="Connections that one process keeps open (PostgreSQL).")


class HoldoutSettings(Section):
    """The share of conversations that no round ever trains on."""

    key: SecretStr | None = Field(
        None, description="Secret that decides which conversations are held out. Made by the set-up; must never change."
    )
    share: float = Field(0.15, gt=0, lt=1, description="Share of conversations that are held out.")


class ErasureSettings(Section):
    """The removal of users who ask to be forgotten."""

    key: SecretStr | None = Field(
        None, description="Secret under which erased users are remembered. Made by the set-up; must never change."
    )
