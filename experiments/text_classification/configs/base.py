"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.algorithms.defaults import FINETUNE, MAX_NORM
from research.core import config
from research.nn import model_keys

MODELS = {  # model.name -> the module whose fields are its keys
    "recurrent": "research.models.text.text_recurrent.TextRecurrent",
    "cnn": "research.models.text.text_cnn.TextCNN",
    "conv": "research.models.text.text_conv.TextConv",
    "ngrams": "research.models.text.text_ngrams.TextNGrams",
    "bert": "research.models.text.bert.Encoder",
    "gpt": "research.models.text.gpt.GPT",
}


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                # pydoc, service_messages, short_answers, sst2, imdb, trec, tweeteval_emotion, ag_news, ag_news_part,
                # chinese_reviews, chinese_titles, files, feedback
                source="pydoc",
                path=None,  # files: a folder a class, or a .csv, .tsv or .jsonl of text and label; feedback: an exported set
                text_key=None,  # files: the column or key of a text, default "text"
                label_key=None,  # and of its class, default "label"
                phrases=None,  # sst2: train on every phrase of the sentences, too
                labels=None,  # trec: coarse or fine
                valid_fraction=None,  # of train, where the source has no validation part; default 0.1
                test_fraction=None,  # pydoc, files: likewise
                train_size=None,  # train on so many texts, of every class its share
                augment=None,  # change training texts each epoch: some of synonyms, insert, swap, delete, paraphrase
                paraphrases=None,  # the file of `almanac paraphrase` that the last of these reads
                augment_share=None,  # of a text's words, default 0.1
                extra=None,  # a folder of `almanac feedback export`: trained on too; what it holds out is the split new
                extra_share=None,  # of an epoch's examples that are of extra, repeated in turn; None: each once
                folds=0,  # cross-validation: the training texts in so many folds
                fold=0,  # of which this one is the test part
                normalise="none",  # none, kim, joulin, keras: how texts are cleaned, see research/data/text/normalise.py
                tokenizer="word",  # word, char, byte, jieba, wordpiece, gpt2, bpe, unigram
                vocab_size=None,  # word, jieba, bpe, unigram: at most so many tokens
                min_count=None,  # word, jieba, char: of words or characters that training has so often
                special=None,  # special tokens that the model needs, ("cls", "sep") for a BERT; word, jieba, char get them
                length=64,  # tokens kept of a text, T
                keep="head",  # of a longer text; or tail
                pad=None,  # front: <pad> tokens before a shorter text, which the model reads, as Keras does
                buckets=0,  # batches by length, in so many; 0: of any, padded to length
                batch_size=32,  # texts a step over all devices, B
                eval_batch_size=128,
            ),
            model=model_keys.of_model(MODELS, changes, "recurrent", without=("head", "tied")),
            max_norm=MAX_NORM,
            finetune=FINETUNE,
            best=dict(metric="valid/accuracy", mode="max", patience=None),  # patience: a duration
            class_weights=None,  # balanced: texts of rarer classes weigh more in the loss, each class as much as another
            macro_f1=None,  # True: F1 of each class and their mean are measured, too
            quadratic_kappa=None,  # True, of classes that are whole numbers: agreement, and the mean distance of scores
            threshold="accuracy",  # two classes: what the threshold of the report maximises on validation; or f1
        ),
        **changes,
    )
