"""trec_bert's twin: the same network and steps from random values.

Cost        4 minutes on 2 CPU cores (estimate); 4.4 M parameters
Run         almanac reproduce text_classification/trec_bert_scratch
"""

from experiments.text_classification.configs.sst2_bert import recipe


def get_config():
    return recipe("trec", 48, "4 min")
