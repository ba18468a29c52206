"""Make the folder of a model for servers that need a tokenizer and a shape but no knowledge: run by a server's own Python.

A few thousand tokens are learned from the docstrings of the standard library. There are no weights: Dynamo's mocker asks
for none, and vLLM makes random ones with `--load-format dummy`. `python make_model.py FOLDER`.
"""

import json
import pydoc
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 4096
CONTEXT = 2048
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
ADDED = ("<think>", "</think>", "<tool_call>", "</tool_call>")
MODULES = (
    "argparse asyncio collections csv datetime email functools http io itertools json logging os pathlib re random \
shutil socket sqlite3 statistics string subprocess tempfile threading time typing unittest urllib.request uuid zipfile"
)

TEMPLATE = """\
{%- macro text(content) -%}
{%- if content is string -%}{{ content }}
{%- elif content -%}{%- for part in content -%}{{ part.text }}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- if tools -%}<|im_start|>system
Tools:{%- for tool in tools %} {{ tool.function.name }}{%- endfor %}<|im_end|>
{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ text(message.content) }}
{%- for call in message.tool_calls or [] %}<tool_call>{{ call.function.name }}</tool_call>{%- endfor -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking -%}<think>

</think>

{% endif -%}{%- endif -%}
"""


def docstrings() -> Iterator[str]:
    """The documentation of some modules of the standard library, as `help` shows it.

    White space is folded: with tokens of many blanks a random model would seldom get out of a gap in its JSON.
    """
    for name in MODULES.split():
        yield " ".join(pydoc.plain(pydoc.render_doc(name)).split())


def tokenizer() -> Tokenizer:
    """A byte-level byte-pair tokenizer of the texts above."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    room = VOCABULARY - len(ADDED) - 3
    trainer = trainers.BpeTrainer(vocab_size=room, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(docstrings(), trainer)
    made.add_special_tokens([PAD, START, END])
    made.add_tokens([AddedToken(word, special=False, normalized=False) for word in ADDED])
    return made


def documents(made: Tokenizer) -> dict[str, object]:
    """What stands beside the tokenizer: a small Qwen3 that fits its vocabulary."""
    pad, end = made.token_to_id(PAD), made.token_to_id(END)
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "dtype": "float32",
        "vocab_size": -(-made.get_vocab_size() // 64) * 64,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "attention_bias": False,
        "attention_dropout": 0.0,
        "max_position_embeddings": CONTEXT,
        "use_sliding_window": False,
        "sliding_window": None,
        "layer_types": ["full_attention"] * 2,
        "tie_word_embeddings": True,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": pad,
    }
    words = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": TEMPLATE,
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    return {
        "config.json": config,
        "generation_config.json": {"eos_token_id": end, "pad_token_id": pad},
        "tokenizer_config.json": words,
    }


def main(folder: Path) -> None:
    """Write the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    made = tokenizer()
    made.save(str(folder / "tokenizer.json"))
    for name, document in documents(made).items():
        (folder / name).write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
