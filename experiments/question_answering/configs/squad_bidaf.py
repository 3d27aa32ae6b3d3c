"""BiDAF on SQuAD v1.1 without word vectors: characters alone.

Reproduces  Seo 2017 (1611.01603), Table 1b, ablation "No word embedding": development F1 66.8 (EM 55.5)
Cost        about 30 minutes a seed on one H200 (estimated); 2.3 M parameters. Not for a CPU
Run         almanac reproduce question_answering/squad_bidaf

Characters, because GloVe's vectors have to be downloaded. The last LSTM reads what the authors' code gives it
(allenai/bi-att-flow, basic/model.py), which is where the paper's 2.6 million parameters come from. Averages of the weights,
decayed by 0.999, are what is measured. Words are runs of letters and digits, and signs, where the authors have the Penn
Treebank's; 2 % of the articles to train on are held out to choose the checkpoint, which the authors chose on the
development part that the number is of.
"""

from experiments.question_answering.configs.base import base


def get_config():
    return base(
        data=dict(
            source="squad", length=400, question_length=30, word_length=16, char_min_count=50, stride=200, batch_size=60,
            eval_batch_size=60,
        ),
        model=dict(width=100, words=0, char_width=8, filters=100, dropout=0.2, end_sees_all=True),
        answer=dict(max_length=30),
        optim=dict(name="adadelta", peak_lr=0.5, b2=0.95, eps=1e-8, schedule="constant", ema=0.999),
        num_steps="12 epochs",
        log_every=100,
        eval_every="1 epoch",
        save_every=500,
        reproduces=(
            dict(
                paper="Seo 2017, BiDAF", table="Table 1b, no word embedding", metric="test/f1", select="max:valid/f1",
                best_on_test="max", value=66.8, low=64.0, high=69.0, seeds=3, cost="30 min a seed, one H200 (estimate)",
            ),
            dict(
                paper="Seo 2017, BiDAF", table="Table 1b, no word embedding", metric="test/em", select="max:valid/f1",
                best_on_test="max", value=55.5, low=52.5, high=58.0, seeds=3, cost="30 min a seed, one H200 (estimate)",
            ),
        ),
    )  # fmt: skip
