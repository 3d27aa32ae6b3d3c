"""emotion_lstm's tweets by a bag of n-grams, as fastText has it: of one to five characters.

Reproduces  Barbieri et al. 2020, TweetEval (2010.12421), their README, emotion, FastText: test macro F1 65.2
Cost        1 minute a seed on one CPU core (estimate); 2.1 M parameters
Run         almanac reproduce text_classification/emotion_ngrams
"""

from experiments.text_classification.configs.emotion_lstm import recipe


def get_config():
    return recipe(
        0.652, 0.627, 0.677, "FastText", "20 s",
        data=dict(
            source="tweeteval_emotion", normalise="joulin", tokenizer="char", min_count=2, length=160, batch_size=32,
            eval_batch_size=200,
        ),
        model=dict(name="ngrams", width=32, order=5, buckets=1 << 16),
        optim=dict(peak_lr=1e-2, schedule="linear"),
        num_steps="15 epochs",
        log_every=20,
    )  # fmt: skip
