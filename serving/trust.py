"""An adapter is served only when its files are exactly those that the trainer sealed and recorded."""

import hashlib
from pathlib import Path

from trainer.errors import TrainerError
from trainer.seal import verify
from trainer.tables import Adapter


class Untrusted(Exception):
    """The adapter's directory does not hold what was sealed: it is not loaded."""


def check_sealed(adapter: Adapter) -> None:
    """Compare every file of the adapter with its manifest, and that with what the database recorded.

    Raises:
        Untrusted: something is missing, changed or added.
    """
    home = Path(adapter.path)
    try:
        verify(home)
        manifest_sha256 = hashlib.sha256((home / "manifest.json").read_bytes()).hexdigest()
    except (TrainerError, OSError) as error:
        raise Untrusted(str(error)) from error
    if manifest_sha256 != adapter.manifest_sha256:
        raise Untrusted(f"The manifest in {home} is not the one that was recorded when {adapter.name} was sealed.")
