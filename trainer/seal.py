"""Adapters become visible whole or not at all: directory renamed into place, manifest last, readers trust only what it names."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.errors import NotSealed
from trainer.files import sha256, sync_directory, write_atomically

MANIFEST = "manifest.json"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


class SealedFile(BaseModel):
    """One file of an adapter."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    bytes: int


class Seal(BaseModel):
    """The manifest of a sealed adapter: what it consists of, and where it comes from."""

    model_config = ConfigDict(frozen=True)

    name: str
    files: dict[str, SealedFile]
    lineage: dict[str, Any]


def seal(draft: Path, home: Path, lineage: dict[str, Any]) -> str:
    """Publish a draft (adapter_config.json and safetensors weights) as `home` and return the SHA-256 of its manifest.

    A draft that was sealed before, by an attempt that was killed afterwards, stays as it is.

    Raises:
        NotSealed: `home` exists and is not this adapter, sealed.
    """
    if home.exists():
        if verify(home).lineage != lineage:
            raise NotSealed(f"{home} is another adapter already, and a name is never used twice. Move it away.")
        return sha256(home / MANIFEST)
    building = home.with_name(f".{home.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        write_atomically(building / name, (draft / name).read_bytes())
    contents = Seal(name=home.name, files={name: _described(building / name) for name in (CONFIG, WEIGHTS)}, lineage=lineage)
    write_atomically(building / MANIFEST, contents.model_dump_json(indent=1).encode())
    os.rename(building, home)
    sync_directory(home.parent)
    return sha256(home / MANIFEST)


def verify(home: Path) -> Seal:
    """Check an adapter against its manifest before it is loaded.

    Raises:
        NotSealed: no manifest, or a file is missing, changed, or one that the manifest does not name.
    """
    try:
        sealed = Seal.model_validate_json((home / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise NotSealed(
            f"{home} has no valid {MANIFEST}: the adapter was never sealed, or was damaged. Restore or retrain it."
        ) from error
    present = {path.name for path in home.iterdir()} - {MANIFEST}
    if present != set(sealed.files):
        odd = ", ".join(sorted(present ^ set(sealed.files)))
        raise NotSealed(f"{home} is not what its manifest says: {odd}. Restore or retrain it.")
    for name, file in sealed.files.items():
        if not (home / name).is_file() or _described(home / name) != file:
            raise NotSealed(f"{home}/{name} is not what the manifest says. Restore or retrain the adapter.")
    if sealed.name != home.name or json.loads((home / CONFIG).read_text()).get("peft_type") != "LORA":
        raise NotSealed(f"{home} is not the LoRA adapter that its manifest names.")
    return sealed


def _described(path: Path) -> SealedFile:
    return SealedFile(sha256=sha256(path), bytes=path.stat().st_size)
