"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.nn import model_keys


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            method="dpo",  # sft: imitates demonstrations; reward: a reward model; dpo: pairs; grpo: samples and their rewards
            data=dict(
                source="arithmetic",  # arithmetic: sums; files: your own pairs
                digits=None,  # arithmetic: of each number, at most; default 2
                noise=None,  # arithmetic: the share of wrong sums among the demonstrations, default 0.5
                eval_size=None,  # arithmetic: sums to validate on, default 512
                path=None,  # files: a .jsonl of {"prompt", "chosen", "rejected"}
                tokenizer=None,  # files: byte (the default), bpe, unigram, char, word, jieba, gpt2, or a tokenizer.json's path
                vocab_size=None,  # files: bpe, unigram: tokens to learn; word, jieba: the commonest, None is all
                length=None,  # files: tokens of a prompt and its completion, T, default 256; longer pairs are left out
                valid_fraction=None,  # files: of the prompts, default 0.1
                batch_size=64,  # examples a step over all devices, B
                eval_batch_size=256,
            ),
            model=dict(
                model_keys.fields("research.models.text.gpt.GPT", without=("head", "tied")),
                num_layers=3,
                num_heads=4,
                width=128,
            ),
            dpo=dict(
                beta=0.1,  # of the implicit reward
                smoothing=0.0,  # the share of pairs whose preference is thought wrong
            ),
            grpo=dict(
                reward="exact",  # exact: 1 for the chosen completion; length: a wrong reward, for what it shows
                group=8,  # samples a prompt
                updates=1,  # for each set of samples
                temperature=1.0,  # of samples, also in evaluation
                clip=0.2,  # of the ratio to the policy that drew the samples
                beta=0.04,  # of the KL to the reference
            ),
            best=dict(metric="valid/sampled_accuracy", mode="max", patience=None),
        ),
        **changes,
    )
