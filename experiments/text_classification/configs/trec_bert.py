"""A BERT-Tiny, pre-trained on WikiText-2 by bert/wikitext2_tiny, fine-tuned on TREC's questions. Its twin: trec_bert_scratch.

Cost        2 minutes a seed on one CPU core; 4.3 M parameters
Run         almanac reproduce text_classification/trec_bert
"""

from experiments.text_classification.configs.sst2_bert import PRETRAINED, recipe


def get_config():
    return recipe("trec", 48, "2 min", **PRETRAINED)
