"""Scikit-learn's digits on a canvas: boxes to find without a download. A picture is a function of (seed, index) alone."""

import numpy as np

from research.data.boxes.truth import Truth
from research.data.images import labelled
from research.util.errors import UserError

COUNTS = {"train": 2_000, "valid": 200, "test": 200}
MOST = 4  # digits of a picture
SCALES = (1, 2, 3)  # a digit's 8 x 8 pixels are drawn this many times as large
TRIES = 20  # places that are drawn for a digit; it is left out if it would touch another at each


class DigitCanvas:
    """As `annotated.BoxSource`, of drawn pictures; the digits of one part are in no other."""

    def __init__(self, part: str, size: int, seed: int):
        if size < 8 * max(SCALES) + 2:
            raise UserError(
                f"data.size = {size}: digits are up to {8 * max(SCALES)} pixels large; at least {8 * max(SCALES) + 2}"
            )
        digits = labelled.load({"source": "digits"})
        source = {"train": digits.train, "valid": digits.valid, "test": digits.test}[part]
        batch = source.gather(np.arange(len(source)), 0)
        self._images, self._labels = batch["image"][..., 0], batch["label"]
        self._seed, self._count, self.shape = (seed, len(part)), COUNTS[part], (size, size, 1)

    def __len__(self) -> int:
        return self._count

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        """Epochs are alike."""
        drawn = [self._draw(int(i)) for i in indices]
        out = {name: np.stack([row[name] for row in drawn]) for name in drawn[0]}
        return out | {"size": np.full((len(indices), 2), self.shape[0], np.int32)}

    def truth(self, index: int) -> Truth:
        row = self._draw(index)
        real = row["box_mask"] > 0
        return Truth(row["boxes"][real].astype(np.float64), row["labels"][real], np.zeros(real.sum(), bool))

    def _draw(self, index: int) -> dict[str, np.ndarray]:
        """A box is of the pixels with ink. Noise is uniform up to a fifth of the ink's strength."""
        rng, side = np.random.default_rng((*self._seed, index)), self.shape[0]
        canvas = rng.uniform(0, 0.2, self.shape).astype(np.float32)
        boxes, labels, mask = np.zeros((MOST, 4), np.float32), np.zeros(MOST, np.int32), np.zeros(MOST, np.float32)
        taken = np.zeros((side, side), bool)
        for slot in range(rng.integers(1, MOST + 1)):
            which, scale = rng.integers(len(self._images)), int(rng.choice(SCALES))
            large = np.kron(self._images[which], np.ones((scale, scale), np.float32))
            for y, x in rng.integers(0, side - len(large) + 1, (TRIES, 2)):
                here = (slice(y, y + len(large)), slice(x, x + len(large)))
                if taken[here].any():
                    continue
                taken[here] = True
                canvas[(*here, 0)] = np.maximum(canvas[(*here, 0)], large)
                rows, columns = np.flatnonzero(large.any(1)), np.flatnonzero(large.any(0))
                boxes[slot] = x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1
                labels[slot], mask[slot] = self._labels[which], 1
                break
        return {"image": canvas, "boxes": boxes, "labels": labels, "box_mask": mask}
