"""Inpainting of scikit-learn's 8 x 8 digits whose middle 4 x 4 pixels are hidden, as in Pathak 2016: nothing to download.

Cost        half a minute on 2 idle CPU cores (estimate); 0.09 M parameters
Run         almanac train restoration/digits_hole
"""

from experiments.restoration.configs import photographs_x4


def get_config():
    return photographs_x4.get_config(
        data=dict(source="digits"), damage=dict(name="mask", size=4), model=dict(fold=2), loss=dict(name="l2"),
        features="classifier",
    )  # fmt: skip
