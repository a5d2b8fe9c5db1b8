"""An adapter is served only when its files are exactly those that the trainer sealed and recorded."""

from pathlib import Path

from trainer.errors import NotSealed
from trainer.files import sha256
from trainer.seal import MANIFEST, verify
from trainer.tables import Adapter


def check_sealed(adapter: Adapter) -> None:
    """Read every file of the adapter and compare it with the manifest, and that with the database.

    Raises:
        NotSealed: something is missing, changed or added.
    """
    home = Path(adapter.path)
    verify(home)
    if sha256(home / MANIFEST) != adapter.manifest_sha256:
        raise NotSealed(f"{home}/{MANIFEST} is not the one that was recorded when {adapter.name} was sealed.")
