"""As pos_bilstm_crf, by a BERT-Tiny from scratch, without a CRF.

Cost        11 minutes on a busy CPU core; 1.4 M parameters
Run         almanac train token_labelling/pos_bert
"""

from experiments.token_labelling.configs.pos_bilstm_crf import WORDS
from experiments.token_labelling.configs.segmentation_bilstm_crf import BERT, recipe


def get_config():
    return recipe(WORDS, dict(num_layers=2, num_heads=2, width=128), BERT, "valid/accuracy", epochs=4)
