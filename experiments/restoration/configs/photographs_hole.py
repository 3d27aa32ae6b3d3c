"""Inpainting of photographs: the middle 16 x 16 of 32 x 32 pixels, Pathak 2016's central region. Nothing to download.

Cost        3 minutes on 2 CPU cores (estimate); 0.12 M parameters
Run         almanac train restoration/photographs_hole
"""

from experiments.restoration.configs import photographs_x4


def get_config():
    return photographs_x4.get_config(damage=dict(name="mask", size=16), loss=dict(name="l2"))
