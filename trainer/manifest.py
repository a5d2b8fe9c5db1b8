"""What a round is about, frozen before it starts: the pairs' content, the policies, the settings, the seed."""

from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict

from ingest.events import Prompt, Reply
from ingest.settings import Settings, TaskSettings
from trainer.errors import CannotTrain
from trainer.files import sha256, write_atomically


class Frozen(BaseModel):
    """Never changes, and knows no field that it does not name."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FrozenPrompt(Frozen):
    """A prompt as it was asked."""

    prompt: Prompt
    tools: tuple[dict[str, object], ...] | None = None


class FrozenPair(FrozenPrompt):
    """A pair's content as it was when the round was planned."""

    id: str
    chosen: Reply
    rejected: Reply
    source: str
    replay: bool = False
    """It was in an earlier round that reached a verdict."""


class Manifest(Frozen):
    """All that a round needs, so that it can be run again from here alone."""

    round_id: int
    name: str
    task: str
    base_model: str
    parent: str
    parent_path: str | None
    """Folder of the parent adapter; none when training starts from the base model."""
    live: str
    """Adapter that was live when the round was planned, or `base`."""
    settings: TaskSettings
    train: tuple[FrozenPair, ...]
    holdout: tuple[FrozenPair, ...]
    prompts: tuple[FrozenPrompt, ...]
    """Held-out prompts that candidate and live answer afresh."""
    near_holdout: int
    """Training pairs left out because their prompt nearly repeats a held-out one."""
    last_event_at: AwareDatetime
    """When the last event behind the training pairs happened."""
    removed: int = 0
    """Pairs and prompts that were taken out since, because the users were erased or the events expired."""
    original_sha256: str | None = None
    """Of the manifest as it was written first, where something was taken out: adapters are sealed with that."""


def folder_of(settings: Settings, name: str) -> Path:
    """Where a round keeps its manifest, checkpoints and progress."""
    return settings.rounds_dir / name


def write(folder: Path, manifest: Manifest) -> None:
    """Publish the manifest in the round's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "manifest.json", manifest.model_dump_json(indent=1).encode())


def read(folder: Path) -> Manifest:
    """Read a round's manifest.

    Raises:
        CannotTrain: there is none, or it is not one.
    """
    try:
        return Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    except (OSError, ValueError) as error:
        raise CannotTrain(f"{folder}/manifest.json cannot be read ({type(error).__name__}): plan a new round.") from error


def digest(folder: Path) -> str:
    """SHA-256 of the manifest, in hex."""
    return sha256(folder / "manifest.json")
