"""Settings of the processes, and of the model that they serve and train."""

from pydantic import Field, SecretStr

from ingest.settings.section import Section


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
