"""A dual encoder of bags of words on SQuAD v1.1, trained from scratch: passages of the development part, found by its questions.

No published number has this protocol (Karpukhin 2020 search all of Wikipedia, with BERT): BM25 on the same passages is what
it is set beside.

Cost        about 5 minutes on 2 CPU cores; 2.6 M parameters
Run         almanac train retrieval/squad_dual
"""

from experiments.retrieval.configs.base import base


def get_config():
    return base(
        data=dict(
            source="squad", tokenizer="bpe", vocab_size=20_000, length=192, question_length=40, batch_size=128,
            eval_batch_size=256,
        ),
        model=dict(width=128, dropout=0.1),
        optim=dict(peak_lr=5e-3, end_lr=5e-4, warmup=100, clip_norm=1.0),
        num_steps=1_500,
        log_every=50,
        eval_every=300,
        save_every=300,
    )  # fmt: skip
