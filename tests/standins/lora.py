"""Random LoRAs that vLLM loads: rank 8 on the attention projections of a Llama."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

RANK = 8
TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}


def write_lora(directory: Path, seed: int, model: Path | None = None, rank: int = RANK) -> Path:
    """Write an adapter for the model in a directory, or for one too small to exist; different seeds write different text."""
    config = json.loads((model / "config.json").read_text()) if model else TINY
    directory.mkdir(parents=True)
    save_file(_weights(config, seed, rank), directory / "adapter_model.safetensors")
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    adapter = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "target_modules": targets}
    (directory / "adapter_config.json").write_text(json.dumps(adapter))
    return directory


def _weights(config: dict[str, int], seed: int, rank: int) -> dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"]:
    random = np.random.default_rng(seed)
    hidden = config["hidden_size"]
    narrow = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    outputs = {"q_proj": hidden, "k_proj": narrow, "v_proj": narrow, "o_proj": hidden}
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for module, width in outputs.items():
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            weights[f"{name}.lora_A.weight"] = random.normal(0, 0.1, (rank, hidden)).astype(np.float32)
            weights[f"{name}.lora_B.weight"] = random.normal(0, 0.2, (width, rank)).astype(np.float32)
    return weights
