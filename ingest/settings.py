"""Every setting of Whetstone: its unit, its bounds, its meaning. `whetstone config` prints this file with its values.

Values come, first found wins, from `WHETSTONE_*` environment variables (`WHETSTONE_KAFKA_BOOTSTRAP` is
`kafka.bootstrap`), from `DATA_DIR/secrets.toml` (made by the set-up, mode 0600), and from `whetstone.toml`
(or the file that `WHETSTONE_CONFIG` names).
"""

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

TaskName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class WrongSetting(Exception):
    """A setting is missing, unknown or out of its range. The message names it and what it may be."""


class Section(BaseModel):
    """A table of `whetstone.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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


class IngestSettings(Section):
    """The feedback API."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8401, ge=1, le=65535, description="Port to listen on.")
    url: str | None = Field(None, description="Where other parts reach the feedback API. Default: http://HOST:PORT.")
    workers: int = Field(1, ge=1, le=64, description="Processes that serve the API.")
    allowed_hosts: tuple[str, ...] = Field(
        ("127.0.0.1", "localhost", "[::1]"), description="Host headers that are answered; others get 400."
    )
    max_event_bytes: int = Field(1_000_000, ge=1_000, le=16_000_000, description="Largest event, in bytes of JSON.")
    max_request_bytes: int = Field(16_000_000, ge=1_000, le=64_000_000, description="Largest request, in bytes.")
    max_batch_events: int = Field(1_000, ge=1, le=10_000, description="Most events in one request.")
    max_in_flight_events: int = Field(
        20_000, ge=1, description="Events not yet durable that one process holds; more are answered 503."
    )


class GatewaySettings(Section):
    """The OpenAI-compatible door in front of vLLM."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8400, ge=1, le=65535, description="Port to listen on.")
    url: str | None = Field(None, description="Where other parts reach the gateway. Default: http://HOST:PORT.")
    workers: int = Field(1, ge=1, le=64, description="Processes that serve the gateway.")
    allowed_hosts: tuple[str, ...] = Field(
        ("127.0.0.1", "localhost", "[::1]"), description="Host headers that are answered; others get 400."
    )
    request_timeout_s: float = Field(600, gt=0, description="Give a reply up after this.")
    max_request_bytes: int = Field(4_000_000, ge=1_000, le=64_000_000, description="Largest request, in bytes.")
    spool_max_bytes: int = Field(
        1_000_000_000, ge=1_000_000, description="Generations that may wait on disk for the event log, in bytes."
    )


class ModelSettings(Section):
    """The model that is served and trained."""

    name: str = Field("var/models/smollm2-135m-instruct", description="A directory, or a name on the Hugging Face hub.")
    max_length: int = Field(1024, ge=64, description="Longest prompt and reply together, in tokens.")


class EngineSettings(Section):
    """vLLM, a server process of its own."""

    url: str | None = Field(None, description="http://HOST:PORT or unix:///PATH of vLLM. Default: a Unix socket in data_dir/run.")
    module: str = Field(
        "vllm.entrypoints.openai.api_server", description="Python module that the one-machine start runs as the engine."
    )
    max_lora_rank: int = Field(8, ge=1, le=512, description="Highest rank of any adapter. On a CPU higher is slower.")
    lora_modules: tuple[str, ...] = Field(
        ("qkv_proj", "o_proj"), description="Modules that may have an adapter. On a CPU more are slower."
    )
    max_loras: int = Field(2, ge=1, le=64, description="Adapters in one batch.")
    max_loaded: int = Field(4, ge=2, le=256, description="Adapters kept loaded; the live one and its parent always are.")
    cpu_kv_cache_gib: float = Field(2, gt=0, description="Memory for keys and values on a CPU, in GiB.")
    gpu_memory_share: float = Field(0.5, gt=0, le=0.95, description="Share of the GPU's memory that vLLM takes.")
    start_timeout_s: float = Field(600, gt=0, description="Start vLLM again if it does not answer within this.")


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


class PairingSettings(Section):
    """The consumer of the event log."""

    batch_events: int = Field(2_000, ge=1, le=50_000, description="Most events stored in one transaction.")
    poll_s: float = Field(0.2, gt=0, le=10, description="Longest wait for new events, in seconds.")
    host: str = Field("127.0.0.1", description="Address on which a worker answers /metrics and /healthz.")
    port: int = Field(8403, ge=1, le=65535, description="Port of these. A worker that finds it taken goes on without.")
    allowed_hosts: tuple[str, ...] = Field(
        ("127.0.0.1", "localhost", "[::1]"), description="Host headers that are answered; others get 400."
    )


class TrainerSettings(Section):
    """The scheduler of rounds, and the process that trains them."""

    gateway_key: SecretStr | None = Field(None, description="API key with which rounds ask the gateway. Made by the set-up.")
    criteria_key: SecretStr | None = Field(
        None, description="API key with which criteria ask the gateway and send scores. Made by the set-up."
    )
    poll_s: float = Field(2, gt=0, le=3600, description="How often the scheduler looks whether a round is due.")
    nice: int = Field(10, ge=0, le=19, description="Niceness of training, so that inference on the same cores goes first.")
    max_attempts: int = Field(3, ge=1, le=20, description="Starts of one round before it counts as failed.")
    evaluation_concurrency: int = Field(16, ge=1, le=512, description="Evaluation requests in flight at once.")


class RolloutSettings(Section):
    """The loop that loads adapters and moves traffic."""

    poll_s: float = Field(0.2, gt=0, le=60, description="How often the loop compares what is wanted with what is.")
    drain_timeout_s: float = Field(600, gt=0, description="Unload an adapter that still has requests after this.")


class CriterionSettings(Section):
    """A check of a reply. It gives each reply a score from 0 (bad) to 1 (good); the gate counts 0.5 and more as passed."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name, as in reports and metrics.")
    type: Literal["word_limit", "regex", "json_schema", "python", "judge"] = Field(
        description="What kind of check. The gate leaves judges out: it looks at single replies."
    )
    max_words: int | None = Field(None, ge=1, description="word_limit: most words, the same for every prompt.")
    limit_pattern: str | None = Field(
        None, description="word_limit: regular expression whose first group is the limit that the prompt states."
    )
    pattern: str | None = Field(None, description="regex: what a good reply matches somewhere.")
    json_schema: dict[str, Any] | None = Field(
        None, description="json_schema: the schema, as a table, that a good reply keeps to."
    )
    function: str | None = Field(
        None, description="python: MODULE:FUNCTION, called with (prompt_text, reply_text), returns True, False or a score."
    )
    judge_url: str | None = Field(
        None, pattern="^https?://", description="judge: base URL of an OpenAI-compatible API, such as https://HOST/v1."
    )
    judge_model: str | None = Field(None, min_length=1, description="judge: model that is asked.")
    judge_key_env: str | None = Field(
        None, min_length=1, description="judge: name of the environment variable that holds the API's key."
    )
    instruction: str | None = Field(None, min_length=1, description="judge: what makes a reply the better one, in words.")
    max_drop: float = Field(
        0.05, ge=0, le=1, description="The gate refuses a candidate whose share of passed replies is lower by more."
    )
    weight: float = Field(1, gt=0, description="Scores: what a point counts where several criteria are added up.")
    min_margin: float = Field(0, ge=0, description="Scores: a smaller difference between two replies makes no pair.")


class SourceSettings(Section):
    """What one vote of a source counts, and how far its labels are trusted."""

    weight: int = Field(1, ge=1, le=1_000, description="What one vote counts where votes disagree.")
    wrong_share: float = Field(0.1, ge=0, lt=0.5, description="Assumed share of wrong labels.")


class SourcesSettings(Section):
    """The sources of pairs."""

    expert: SourceSettings = SourceSettings(weight=5, wrong_share=0.02)
    edit: SourceSettings = SourceSettings(wrong_share=0.05)
    preference: SourceSettings = SourceSettings(wrong_share=0.05)
    choice: SourceSettings = SourceSettings(wrong_share=0.1)
    criterion: SourceSettings = SourceSettings(wrong_share=0.1)
    regeneration: SourceSettings = SourceSettings(wrong_share=0.2)
    rating: SourceSettings = SourceSettings(wrong_share=0.2)


class TaskPairingSettings(Section):
    """How a task's feedback becomes pairs."""

    choice: Literal["each", "first"] = Field(
        "each", description="The picked reply is preferred over each other one shown, or over the one shown first only."
    )
    regeneration: Literal["first", "each"] = Field(
        "first", description="The accepted reply is preferred over the first rejected one, or over each."
    )
    min_edit_share: float = Field(0.02, ge=0, le=1, description="An edit that changes a smaller share of the text makes no pair.")
    criteria: Literal["weighted", "lexicographic"] = Field(
        "weighted", description="Scores of several criteria are added up by weight, or the first criterion that can decide does."
    )
    rating_pairs_per_prompt: int = Field(4, ge=0, le=100, description="Most pairs made of ratings for one prompt.")
    sources: SourcesSettings = Field(SourcesSettings(), description="Weight and assumed share of wrong labels, by source.")


class RedactionSettings(Section):
    """What is taken out of a task's texts before anything is kept."""

    kinds: tuple[Literal["email", "phone", "card"], ...] = Field(
        (), description="Found and replaced by [email], [phone], [card]; by default nothing is."
    )
    region: str | None = Field(
        None,
        pattern="^[A-Z]{2}$",
        description="phone: country (as DE) whose national numbers are found too; without it only those that begin with +.",
    )
    function: str | None = Field(
        None, description="MODULE:FUNCTION, called with each text, returns what is kept of it. The same text, the same result."
    )


class RetentionSettings(Section):
    """How long a task's events are kept."""

    days: float | None = Field(
        None, gt=0, description="Events older than this lose their content; by default none does. Imported ones have no age."
    )


class TriggerSettings(Section):
    """When a round is due."""

    min_new_pairs: int = Field(128, ge=1, description="Start a round with this many new training pairs.")
    max_wait_s: float = Field(86_400, gt=0, description="Start a round with fewer pairs once the oldest is this old.")
    min_pairs_after_wait: int = Field(32, ge=1, description="Never start a round with fewer new training pairs.")


class TrainingSettings(Section):
    """One round of DPO."""

    loss: tuple[str, ...] = Field(("sigmoid_norm", "sft"), min_length=1, description="TRL's names of the losses.")
    loss_weights: tuple[float, ...] = Field((1.0, 0.2), min_length=1, description="Weight of each loss.")
    beta: float = Field(3.0, gt=0, description="Strength of the pull to the reference; 3 suits sigmoid_norm, 0.1 sigmoid.")
    learning_rate: float = Field(5e-4, gt=0, lt=1, description="Peak learning rate.")
    epochs: int = Field(2, ge=1, le=20, description="Passes over the pairs.")
    batch_pairs: int = Field(8, ge=1, le=1024, description="Pairs a step.")
    max_length: int = Field(512, ge=16, description="Longest prompt and reply, in tokens; longer pairs are left out.")
    max_pairs: int = Field(2_000, ge=1, description="Most pairs in a round; the newest are taken.")
    replay_share: float = Field(0.25, ge=0, le=0.9, description="Share of a round's pairs that come from earlier rounds.")
    lora_rank: int = Field(8, ge=1, le=512, description="Rank of the adapter.")
    lora_alpha: int = Field(16, ge=1, description="Scale of the adapter, alpha / rank.")
    lora_modules: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj"), min_length=1, description="Modules that get an adapter."
    )
    reference: Literal["base", "parent"] = Field("base", description="Policy that the round is kept close to.")
    seed: int = Field(0, ge=0, description="Seed of order and initial weights.")


class GateSettings(Section):
    """When a candidate is better."""

    prompts: int = Field(64, ge=1, description="Most held-out prompts that are answered afresh by candidate and live.")
    replies_per_prompt: int = Field(4, ge=1, le=32, description="Replies to each of them.")
    temperature: float = Field(0.7, ge=0, le=2, description="Sampling temperature of those replies.")
    max_tokens: int = Field(128, ge=1, description="Longest of those replies, in tokens; cut off counts as too long.")
    min_gain: float = Field(
        0.02, ge=0, le=1, description="Some criterion's share of passed replies must rise by this, beyond chance."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Certainty with which better must be better than chance.")
    min_length_ratio: float = Field(0.4, ge=0, le=1, description="Least mean words of replies within their limits, against live.")
    max_empty_rise: float = Field(0.03, ge=0, le=1, description="Most that the share of empty replies may rise.")
    max_margin: float = Field(30, gt=0, description="Refuse when the mean margin per pair runs past this, in nats.")


class TaskSettings(Section):
    """One named use of the model."""

    pairing: TaskPairingSettings = TaskPairingSettings()
    trigger: TriggerSettings = TriggerSettings()
    training: TrainingSettings = TrainingSettings()
    gate: GateSettings = GateSettings()
    redaction: RedactionSettings = RedactionSettings()
    retention: RetentionSettings = RetentionSettings()
    criteria: tuple[CriterionSettings, ...] = Field(
        (), description="Checks of replies: the gate makes them, and `whetstone criteria run`."
    )


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
