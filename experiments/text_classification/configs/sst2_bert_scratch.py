"""sst2_bert's twin: the same network and steps from random values.

Cost        5 minutes on 2 CPU cores (estimate); 4.4 M parameters
Run         almanac reproduce text_classification/sst2_bert_scratch
"""

from experiments.text_classification.configs.sst2_bert import recipe


def get_config():
    return recipe("sst2", 64, "5 min")
