"""Parts of speech in the People's Daily: pieces of words, a BiLSTM, and a CRF over the corpus' main tags.

No published number is known to us for this copy and split.

Cost        6 minutes, one CPU core; 1.3 M parameters
Run         almanac train token_labelling/pos_bilstm_crf
"""

from experiments.token_labelling.configs.segmentation_bilstm_crf import BILSTM, recipe

WORDS = dict(source="peoples_daily_pos", tokenizer="bpe", vocab_size=8_000)


def get_config():
    return recipe(WORDS, dict(name="bilstm", crf=True), BILSTM, "valid/accuracy", epochs=4)
