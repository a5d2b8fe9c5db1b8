"""How far a round is, for progress bars elsewhere."""

import json
from pathlib import Path

from trainer.files import write_atomically


class Progress:
    """Tells the phase and the step in the round's folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "progress.json"

    def tell(self, phase: str, step: int, steps: int) -> None:
        write_atomically(self._file, json.dumps({"phase": phase, "step": step, "steps": steps}).encode())
