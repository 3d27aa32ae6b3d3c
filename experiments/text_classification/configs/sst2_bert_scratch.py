"""sst2_bert's twin: the same network and steps from random values.

Cost        4 minutes a seed on one CPU core; 4.3 M parameters
Run         almanac reproduce text_classification/sst2_bert_scratch
"""

from experiments.text_classification.configs.sst2_bert import recipe


def get_config():
    return recipe("sst2", 64, "4 min")
