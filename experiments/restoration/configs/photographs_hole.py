"""Inpainting of photographs: the middle 8 x 8 of 32 x 32 pixels is hidden. Nothing to download.

Cost        half a minute on 2 idle CPU cores (estimate); 0.12 M parameters
Run         almanac train restoration/photographs_hole
"""

from experiments.restoration.configs import photographs_x4


def get_config():
    return photographs_x4.get_config(damage=dict(name="mask", size=8), loss=dict(name="l2"))
