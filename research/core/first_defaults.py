"""The first default of every model's keys, which `upgrade` puts where an old config lacks one.

An entry never changes, whatever becomes of the default. A key that a model gets today gets its entry here, too: what every
run before it amounts to.
"""

from typing import Any

ENCODER = dict(
    dropout=0.1,
    mlp="gelu_exact",
    mlp_width=None,
    norm_eps=1e-12,
    num_heads=2,
    num_layers=2,
    num_segments=2,
    remat=False,
    scan=False,
    width=128,
)
CONVNET = dict(
    channels=(32, 64), conv_dropout=0.0, dropout=0.0, first_pool=True, hidden=256, kernel=3, padding="SAME", pool="avg",
)  # fmt: skip
GPT = dict(
    balance=0.01,
    bias=False,
    dropout=0.0,
    experts=1,
    experts_per_token=2,
    kv_heads=None,
    mlp="gelu",
    mlp_width=None,
    norm="layernorm",
    norm_eps=1e-05,
    num_heads=4,
    num_layers=4,
    positions="learned",
    remat=False,
    rotary_base=10000.0,
    scan=False,
    width=128,
)
RECURRENT = dict(
    embedding_dropout=0.0,
    embedding_width=None,
    init_range=None,
    input_dropout=0.0,
    num_layers=2,
    output_dropout=0.0,
    recurrent_dropout=0.0,
    tied=True,
    width=128,
)
TRANSFORMER = dict(
    activation_dropout=0.0,
    attention_dropout=0.0,
    decoder_layers=2,
    encoder_layers=2,
    final_bias=False,
    mlp="relu",
    mlp_width=256,
    norm_eps=1e-05,
    num_heads=4,
    positions="sinusoidal",
    pre_norm=False,
    scale_embedding=True,
    tied=True,
    width=128,
)
# family: {model.name, the family's first default in front, or None where there is one model alone: {key: default}}
MODELS: dict[str, dict[str | None, dict[str, Any]]] = {
    "bert": {
        None: ENCODER,
    },
    "captions": {
        None: TRANSFORMER | dict(channels=(32, 64), dropout=0.0, vision=True),
    },
    "detection": {
        "grid": dict(
            backbone="residual", bins=16, blocks=1, head_layers=1, levels=3, neck=64, widths=(16, 32, 64, 128, 128)
        ),
        "detr": dict(
            backbone="residual",
            blocks=1,
            decoder_layers=3,
            encoder_layers=2,
            levels=3,
            mlp_width=256,
            num_heads=4,
            queries=50,
            width=64,
            widths=(16, 32, 64, 128, 128),
        ),
        "faster_rcnn": dict(
            anchor=4.0,
            backbone="residual",
            bins=5,
            blocks=1,
            head=128,
            levels=3,
            neck=64,
            proposals=64,
            ratios=(0.5, 1.0, 2.0),
            widths=(16, 32, 64, 128, 128),
        ),
        "ssd": dict(
            backbone="residual",
            blocks=1,
            largest=0.9,
            levels=3,
            ratios=(2.0, 3.0),
            smallest=0.1,
            widths=(16, 32, 64, 128, 128),
        ),
    },
    "diffusion": {
        None: dict(
            attention=(1,),
            blocks=2,
            channels=128,
            conditional=True,
            dropout=0.1,
            multipliers=(1, 2, 2, 2),
            num_heads=1,
        ),
    },
    "gan": {
        "dcgan": dict(
            conditional=False,
            discriminator=dict(norm=None, width=64),
            generator=dict(width=64),
            latent=64,
            pack=1,
        ),
        "mlp": dict(
            conditional=False,
            discriminator=dict(num_layers=3, pieces=5, width=200),
            generator=dict(num_layers=4, width=400),
            latent=64,
            pack=1,
        ),
    },
    "image_classification": {
        "convnet": CONVNET,
        "lenet5": dict(channels=(6, 16), hidden=(120, 84), pad=2),
        "mlp": dict(dropout=0.0, hidden=(300, 100), input_dropout=0.0),
        "resnet": dict(depth=50, form="imagenet", shortcut="projection", width=0, zero_init=False),
        "vit": dict(
            drop_path=0.0,
            dropout=0.0,
            mlp="gelu_exact",
            mlp_width=None,
            norm_eps=1e-06,
            num_heads=3,
            num_layers=12,
            patch=16,
            pool="token",
            positions="learned",
            representation=0,
            width=192,
        ),
        "compact_transformer": dict(
            attention_dropout=0.1,
            convolutions=2,
            drop_path=0.1,
            dropout=0.0,
            filters=64,
            kernel=3,
            mlp_width=128,
            num_heads=2,
            num_layers=2,
            patch=0,
            pool="sequence",
            positions="learned",
            width=128,
        ),
        "convnext": dict(
            depths=(3, 3, 9, 3),
            drop_path=0.0,
            layer_scale=1e-06,
            norm_eps=1e-06,
            patch=4,
            widths=(96, 192, 384, 768),
        ),
        "efficientnet": dict(drop_path=0.2, dropout=0.2, stride=2, variant="lite0"),
        "googlenet": dict(
            auxiliary=0.3, batch_norm=True, dropout=0.4, large_kernel=5, last_pool=3, strides=(2, 2, 2, 2, 2)
        ),
        "inception_v3": dict(auxiliary=0.4, dropout=0.5),
    },
    "in_context": {
        None: dict(dropout=0.0, num_heads=2, num_layers=3, width=64),
    },
    "language_model": {
        "gpt": GPT | dict(tied=True),
        "gru": RECURRENT,
        "lstm": RECURRENT | dict(forget_bias=0.0),
    },
    "multi_task": {
        None: CONVNET,
    },
    "preference": {
        None: GPT | dict(num_layers=3),
    },
    "pretrain_images": {
        "simclr": dict(
            depth=50, form="imagenet", projection=128, shortcut="projection", temperature=0.1, width=0, zero_init=False
        ),
        "mae": dict(
            decoder_heads=16,
            decoder_layers=8,
            decoder_width=512,
            mask=0.75,
            normalise=True,
            num_heads=12,
            num_layers=12,
            patch=16,
            pool="token",
            width=768,
        ),
    },
    "question_answering": {
        "bidaf": dict(
            char_width=8, dropout=0.2, end_sees_all=False, filters=100, match=False, null=False, width=100, words=100
        ),
        "bert": ENCODER | dict(max_length=None),
    },
    "reinforcement": {
        None: dict(activation="tanh", hidden=(64, 64)),
    },
    "restoration": {
        None: dict(blocks=4, fold=4, width=32),
    },
    "retrieval": {
        "bag": dict(dropout=0.0, shared=True, width=128),
        "bert": ENCODER | dict(max_length=None, shared=True),
    },
    "style_transfer": {
        None: dict(blocks=3, kernel=9, width=16),
    },
    "text_classification": {
        "recurrent": dict(
            forget_bias=0.0,
            single_logit=False,
            attention_width=None,
            bidirectional=True,
            cell="lstm",
            dropout=0.0,
            embedding_scale=0.05,
            hidden=128,
            num_layers=1,
            pool="attention",
            recurrent_dropout=0.0,
            width=128,
        ),
        "cnn": dict(dropout=0.5, maps=100, width=300, windows=(3, 4, 5)),
        "conv": dict(dropout=0.0, hidden=128, maps=128, num_layers=2, pool=5, width=64, window=5),
        "ngrams": dict(buckets=1048576, order=2, width=10),
        "bert": ENCODER,
        "gpt": GPT,
    },
    "token_labelling": {
        "bert": ENCODER | dict(num_heads=4, width=64, crf=False),
        "bilstm": dict(crf=False, dropout=0.3, embedding_scale=0.05, hidden=128, num_layers=1, width=128),
    },
    "translation": {
        None: TRANSFORMER | dict(copy=False, dropout=0.1, shared=True),
    },
    "segmentation": {
        None: dict(norm="batch", up="convolution", widths=(64, 128, 256, 512, 1024)),
    },
    "vae": {
        None: dict(activation="tanh", conditional=False, hidden=(200, 200), latent=50),
    },
    "vq_vae": {
        None: dict(blocks=2, code_width=16, codes=64, halvings=1, learning="averages", width=64),
    },
    "verification": {
        None: dict(channels=64, embedding=64, num_blocks=4),
    },
    "video": {
        None: dict(blocks=1, form="2+1d", stem=3, stem_stride=1, widths=(16, 32, 64)),
    },
    "video_anomaly": {
        "autoencoder": dict(code=8, widths=(16, 32)),
        "predictor": dict(widths=(16, 32, 64)),
    },
}
