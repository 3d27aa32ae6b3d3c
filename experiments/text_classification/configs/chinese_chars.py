"""chinese_words' reviews by characters.

Cost        1 minute a seed on one CPU core (estimate); 0.3 M parameters
Run         almanac reproduce text_classification/chinese_chars
"""

from experiments.text_classification.configs.chinese_words import recipe


def get_config():
    return recipe("characters", tokenizer="char", min_count=2, length=200)
