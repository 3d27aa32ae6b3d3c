"""A BERT-Tiny, pre-trained on WikiText-2 by bert/wikitext2_tiny, fine-tuned on TREC's questions. Its twin: trec_bert_scratch.

Cost        4 minutes on 2 CPU cores (estimate); 4.4 M parameters
Run         almanac reproduce text_classification/trec_bert
"""

from experiments.text_classification.configs.sst2_bert import PRETRAINED, recipe


def get_config():
    return recipe("trec", 48, "4 min", **PRETRAINED)
