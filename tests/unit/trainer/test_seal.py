import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.standins.lora import write_lora
from trainer.errors import NotSealed
from trainer.seal import CONFIG, MANIFEST, WEIGHTS, seal, verify

LINEAGE = {"round": 1, "pairs": ["a", "b"]}
NAME = "short-r000001"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "adapters" / NAME


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    return write_lora(tmp_path / "draft", seed=1)


def test_a_sealed_adapter_can_be_trusted_and_tells_where_it_comes_from(draft: Path, home: Path) -> None:
    seal(draft, home, LINEAGE)
    sealed = verify(home)
    assert (sealed.name, sealed.lineage, set(sealed.files)) == (NAME, LINEAGE, {CONFIG, WEIGHTS})


def test_only_configuration_and_weights_are_published(draft: Path, home: Path) -> None:
    (draft / "optimizer.pt").write_bytes(b"pickle")
    (draft / "README.md").write_text("model card")
    seal(draft, home, LINEAGE)
    assert {path.name for path in home.iterdir()} == {CONFIG, WEIGHTS, MANIFEST}


def test_sealing_again_after_a_kill_changes_nothing(draft: Path, home: Path) -> None:
    digest = seal(draft, home, LINEAGE)
    shutil.rmtree(draft)
    assert seal(draft, home, LINEAGE) == digest


def test_a_name_is_never_used_for_another_adapter(draft: Path, home: Path) -> None:
    seal(draft, home, LINEAGE)
    with pytest.raises(NotSealed, match="never used twice"):
        seal(draft, home, {"round": 2})


def _truncate(home: Path) -> None:
    os.truncate(home / WEIGHTS, 100)


def _flip_a_bit(home: Path) -> None:
    content = bytearray((home / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (home / WEIGHTS).write_bytes(content)


def _forget_a_file(home: Path) -> None:
    (home / WEIGHTS).unlink()


def _add_a_file(home: Path) -> None:
    (home / "new_embeddings.safetensors").write_bytes(b"read by some engines")


def _lose_the_manifest(home: Path) -> None:
    (home / MANIFEST).unlink()


def _cut_the_manifest(home: Path) -> None:
    os.truncate(home / MANIFEST, 40)


def _name_another(home: Path) -> None:
    manifest = json.loads((home / MANIFEST).read_text())
    (home / MANIFEST).write_text(json.dumps(manifest | {"name": "short-r000002"}))


def _replace_a_file_by_a_directory(home: Path) -> None:
    (home / WEIGHTS).unlink()
    (home / WEIGHTS).mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _flip_a_bit,
        _forget_a_file,
        _add_a_file,
        _lose_the_manifest,
        _cut_the_manifest,
        _name_another,
        _replace_a_file_by_a_directory,
    ],
)
def test_what_is_not_exactly_what_was_sealed_is_not_trusted(draft: Path, home: Path, damage) -> None:  # type: ignore[no-untyped-def]
    seal(draft, home, LINEAGE)
    damage(home)
    with pytest.raises(NotSealed):
        verify(home)
    with pytest.raises(NotSealed):
        seal(draft, home, LINEAGE)


KILLED_AT_LINE = """
import os, signal, sys
from pathlib import Path
from trainer.seal import seal
left = int(sys.argv[3])
def trace(frame, event, argument):
    global left
    if frame.f_globals.get("__name__", "") not in ("trainer.seal", "trainer.files"):
        return None
    if event == "line":
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace
sys.settrace(trace)
seal(Path(sys.argv[1]), Path(sys.argv[2]), {"round": 1, "pairs": ["a", "b"]})
"""


def test_killed_between_any_two_lines_the_adapter_is_there_whole_or_not_at_all(draft: Path, home: Path) -> None:
    line, lines_survived = 0, 0
    while True:
        killed = subprocess.run([sys.executable, "-c", KILLED_AT_LINE, str(draft), str(home), str(line)], check=False)
        if home.exists():
            assert verify(home).lineage == LINEAGE
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL
        seal(draft, home, LINEAGE)  # the next attempt
        assert verify(home).lineage == LINEAGE
        assert {path.name for path in home.parent.iterdir()} == {NAME}
        shutil.rmtree(home.parent)
        line += 6
        lines_survived += 1
    assert lines_survived > 5
