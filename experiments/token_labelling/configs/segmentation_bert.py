"""As segmentation_bilstm_crf, by a BERT-Tiny from scratch, without a CRF.

Cost        19 minutes on a busy CPU core; 0.92 M parameters
Run         almanac train token_labelling/segmentation_bert
"""

from experiments.token_labelling.configs.segmentation_bilstm_crf import BERT, CHARACTERS, recipe


def get_config():
    return recipe(CHARACTERS, dict(num_layers=2, num_heads=2, width=128), BERT, "valid/word_f1", epochs=8)
