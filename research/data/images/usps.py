"""USPS digits (LeCun et al. 1989; Hull 1994): 7,291 / 2,007 pictures of 16 x 16, grey in 0..1.

The usual split, of which the test part is the harder: 1-nearest-neighbour errs in 5.63 % of it, people in about 2.5 %.
"""

import numpy as np

from research.data import download
from research.data.download import File
from research.util.errors import UserError

FILE = File(
    "usps.h5",
    "https://github.com/niuers/Learning-From-Data-A-Short-Course/raw/879a698b960e5867f7c2b11f8938fa89c3d21839/data/usps.h5",
    "734f88c541104a956d88be2c95d03b4a463ffd74ccc2ba9c80841fb98e3fcb36",
    2_913_522,
)


def load(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images f32[n, 16, 16, 1] in 0..1 and labels i32[n] of "train" or "test".

    Raises UserError if the file cannot be had, or h5py, an extra, is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError:
        raise UserError(
            "data.source = 'usps' is an HDF5 file, and h5py is not installed: pip install 'almanac[usps]'"
        ) from None
    with h5py.File(download.fetch("usps", [FILE])[FILE.name], "r") as file:
        return file[part]["data"][:].reshape(-1, 16, 16, 1), file[part]["target"][:]
