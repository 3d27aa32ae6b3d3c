"""omniglot_triplet with ArcFace: every character, and each of its turns, has a vector.

Cost        10 minutes a seed on 2 CPU cores (estimate); 0.15 M parameters
Run         almanac train verification/omniglot_arcface
"""

from experiments.verification.configs.omniglot_triplet import recipe


def get_config():
    return recipe(dict(name="arcface", margin=0.3, scale=16.0))
