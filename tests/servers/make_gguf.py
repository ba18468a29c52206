"""Make a small Llama of random weights in GGUF, for llama.cpp: run by a Python that has `gguf`.

Its tokenizer is that of the folder of `make_model.py`. `python make_gguf.py FOLDER FILE`.
"""

import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

CONTEXT, WIDTH, INNER, LAYERS, HEADS = 2048, 64, 128, 2, 2
SQUARE = ("attn_q", "attn_k", "attn_v", "attn_output")


def tensors(vocabulary: int) -> dict[str, tuple[int, ...]]:
    """The name and the shape of each matrix."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (vocabulary, WIDTH), "output": (vocabulary, WIDTH)}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{name}": (WIDTH, WIDTH) for name in SQUARE}
        shapes |= {f"blk.{layer}.{name}": (INNER, WIDTH) for name in ("ffn_gate", "ffn_up")}
        shapes |= {f"blk.{layer}.ffn_down": (WIDTH, INNER)}
        shapes |= {f"blk.{layer}.{name}": (WIDTH,) for name in ("attn_norm", "ffn_norm")}
    return shapes | {"output_norm": (WIDTH,)}


def add_tokenizer(writer: GGUFWriter, folder: Path) -> int:
    """Add the tokenizer of a model folder; returns the number of its tokens."""
    made = json.loads((folder / "tokenizer.json").read_text())
    words = json.loads((folder / "tokenizer_config.json").read_text())
    ids: dict[str, int] = made["model"]["vocab"] | {one["content"]: one["id"] for one in made["added_tokens"]}
    special = {one["content"] for one in made["added_tokens"]}
    tokens = sorted(ids, key=ids.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens])
    merges = (one if isinstance(one, str) else " ".join(one) for one in made["model"]["merges"])
    writer.add_token_merges(list(merges))
    writer.add_eos_token_id(ids[words["eos_token"]])
    writer.add_pad_token_id(ids[words["pad_token"]])
    writer.add_chat_template(words["chat_template"])
    return len(tokens)


def main(folder: Path, file: Path) -> None:
    """Write the file."""
    writer = GGUFWriter(str(file), "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    vocabulary = add_tokenizer(writer, folder)
    writer.add_vocab_size(vocabulary)
    random = np.random.default_rng(0)
    for name, shape in tensors(vocabulary).items():
        values = np.ones(shape) if len(shape) == 1 else random.normal(0, 0.02, shape)
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
