"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.nn import model_keys


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                source="numbers",  # numbers, multi30k_bpe, multi30k, ag_news_titles, ag_news_summaries, files
                pair=None,  # source-target, as the data names them; files: the endings of their names, or None for a .tsv
                path=None,  # files: a folder with train.*, valid.*, test.*; the beginning of two files' names; a .tsv
                valid_fraction=None,  # files without a valid part: default 0.1
                tokenizer="word",  # word (what spaces part), char, jieba, bpe, unigram; learnt from the training part
                vocab_size=None,  # bpe, unigram: pieces; word, jieba: at most so many
                min_count=None,  # word, char, jieba: rarer ones are unknown
                both_ways=None,  # True: pairs of both directions; a source begins with the language wanted, as "<2de> a dog"
                denoise=None,  # 0.3, say: restores the texts of both sides from this share of their tokens masked, and no pairs
                decoder_start=None,  # id of the token that a target begins after; default <bos>, or without it <pad>
                length=64,  # the most tokens of a line with its end; longer ones are not trained on
                target_length=None,  # that of a target; default length. Short targets are padded no further
                tokens=2048,  # places a batch over all devices: a bucket of length L has about tokens / L lines
                eval_tokens=4096,
                buckets=4,  # lengths that lines are padded to, at most so many
                bucket_step=4,  # multiples of which they are
                row_multiple=8,  # of which a batch's lines are; the mesh's data axis must divide it
            ),
            model=dict(
                model_keys.fields("research.models.text.transformer.Transformer", without=("source_vocab_size",)),
                dropout=0.1,
            ),
            loss=dict(smoothing=0.1),  # share of a target spread over all V tokens, as fairseq does
            optim=dict(config.OPTIM, name="adam", schedule="rsqrt", b2=0.98),
            num_steps=2_000,
            log_every=20,
            eval_every=250,
            save_every=250,
            best=dict(metric="valid/loss", mode="min", patience=None),  # patience: a duration
            scores=(
                "bleu",
                "exact",
            ),  # bleu, exact, rouge: of greedy translations in training, of the beam's at the end
            translate=dict(
                beam=5,
                penalty="power",  # power: n^alpha; gnmt: ((5 + n) / 6)^alpha
                alpha=1.0,
                early=True,  # a sentence is over when `beam` hypotheses have ended; else when none can become better
                min_length=1,  # tokens before the end
                ratio=1.5,  # at most ratio x the bucket's length + more tokens are said
                more=10,
            ),
            average=dict(last=1),  # newest checkpoints, one a save_every, whose mean is scored at the end
        ),
        **changes,
    )
