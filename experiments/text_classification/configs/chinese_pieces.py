"""chinese_words' reviews by pieces of several characters, learnt from them by byte-pair encoding.

A character that is in no piece is its three bytes: one token in 34 is part of a character.

Cost        1 minute a seed on one CPU core (estimate); 0.5 M parameters
Run         almanac reproduce text_classification/chinese_pieces
"""

from experiments.text_classification.configs.chinese_words import recipe


def get_config():
    return recipe("pieces", tokenizer="bpe", vocab_size=8_000, length=128)
