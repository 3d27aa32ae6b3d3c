"""A Gated PixelCNN over the codes of vq_vae/mnist.

Cost        an hour on 2 CPU cores (estimate); 0.6 M parameters
Run         almanac train vq_vae/mnist_prior --init-from runs/vq_vae/mnist
"""

from experiments.vq_vae.configs import mnist


def get_config():
    return mnist.get_config(
        stage="prior",
        prior=dict(num_layers=6, dropout=0.1),
        score_samples=True,
        optim=dict(name="adam", peak_lr=1e-3, schedule="cosine", warmup="1 epoch"),
    )
