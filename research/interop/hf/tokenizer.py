"""Our tokenizers as the files that transformers' AutoTokenizer reads: tokenizer.json, tokenizer_config.json.

For gpt2, wordpiece, bpe, unigram, and what came from a tokenizer.json. Characters, bytes and words have none: the model is then
written alone.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers as hf

from research.data.tokenizers import Tokenizer
from research.util.files import write_errors, write_json, write_text

IDS = {"bos": "bos_token_id", "eos": "eos_token_id", "pad": "pad_token_id"}


def can_write(tokenizer: Tokenizer | None) -> bool:
    """Whether `write` has files for it."""
    return tokenizer is not None and json.loads(tokenizer.to_json())["name"] in _MAKERS


def ids(tokenizer: Tokenizer | None) -> dict[str, int | None]:
    """The keys of config.json that name special tokens: those of a class's default would be another vocabulary's."""
    special = {} if tokenizer is None else tokenizer.special
    return {key: special.get(name) for name, key in IDS.items()}


def write(folder: Path, tokenizer: Tokenizer, length: int) -> None:
    """Writes the two files; `length` is the most tokens that the model takes."""
    values = json.loads(tokenizer.to_json())
    model = _MAKERS[values["name"]](values, list(tokenizer.special))
    names = {i: token for token, i in model.get_vocab(with_added_tokens=True).items()}
    special = {f"{name}_token": names[i] for name, i in tokenizer.special.items()}
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length, **special}
    with write_errors(folder):
        write_text(folder / "tokenizer.json", model.to_str())
        write_json(folder / "tokenizer_config.json", about | {"clean_up_tokenization_spaces": False})


def _pretrained(values: Mapping[str, Any], special: list[str]) -> hf.Tokenizer:
    return hf.Tokenizer.from_str(json.dumps(values["model"]))


def _gpt2(values: Mapping[str, Any], special: list[str]) -> hf.Tokenizer:
    made = _pretrained(values, special)
    made.add_special_tokens(["<|endoftext|>"])
    return made


def _wordpiece(values: Mapping[str, Any], special: list[str]) -> hf.Tokenizer:
    places = {piece: i for i, piece in enumerate(values["vocab"])}
    made = hf.Tokenizer(hf.models.WordPiece(vocab=places, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = hf.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = hf.pre_tokenizers.BertPreTokenizer()
    made.decoder = hf.decoders.WordPiece(prefix="##", cleanup=False)
    made.add_special_tokens([f"[{name.upper()}]" for name in special])
    made.post_processor = hf.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, places[token]) for token in ("[CLS]", "[SEP]")],
    )
    return made


def _learnt(values: Mapping[str, Any], special: list[str]) -> hf.Tokenizer:
    """Special tokens have the first ids here, and the pieces those after them; none of these has letters between brackets."""
    model, tokens = values["model"], [f"<{name}>" for name in special]
    if values["name"] == "bpe":
        places = {token: i for i, token in enumerate(tokens)} | {p: i + len(tokens) for p, i in model["vocab"].items()}
        made = hf.Tokenizer(hf.models.BPE(vocab=places, merges=[(a, b) for a, b in model["merges"]]))
    else:
        made = hf.Tokenizer(hf.models.Unigram(vocab=[(t, 0.0) for t in tokens] + [(p, score) for p, score in model]))
    made.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = hf.decoders.ByteLevel()
    made.add_special_tokens(tokens)
    return made


_MAKERS = {"gpt2": _gpt2, "wordpiece": _wordpiece, "bpe": _learnt, "unigram": _learnt, "pretrained": _pretrained}
