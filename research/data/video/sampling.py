"""Which frames of a clip are seen: T of them, `stride` apart, from a random start, or in evenly spaced views."""

from typing import Protocol

import numpy as np

from research.data.thread_pool import OrderedMap


class Clips(Protocol):
    """Clips by number: their classes i32[n], their lengths in frames, and frames of one, u8[k, Y, X, C], by their numbers."""

    shape: tuple[int, int, int]  # of a frame

    def __len__(self) -> int: ...

    def labels(self) -> np.ndarray: ...

    def length(self, index: int) -> int: ...

    def frames(self, index: int, numbers: np.ndarray) -> np.ndarray: ...


def window(start: int, frames: int, stride: int, length: int) -> np.ndarray:
    """The numbers of `frames` frames, `stride` apart, i64[T]; after a clip's end its last frame is repeated.

    >>> window(2, frames=4, stride=2, length=7).tolist()
    [2, 4, 6, 6]
    """
    return np.minimum(start + stride * np.arange(frames), length - 1)


def last_start(frames: int, stride: int, length: int) -> int:
    """The last start of a window that ends within the clip; 0 if the clip is shorter than a window."""
    return max(0, length - 1 - stride * (frames - 1))


def view_starts(views: int, frames: int, stride: int, length: int) -> np.ndarray:
    """Starts of windows spread evenly over a clip, i64[V]: the first begins and the last ends with it; of one, in the middle.

    >>> view_starts(3, frames=4, stride=2, length=15).tolist(), view_starts(1, frames=4, stride=2, length=15).tolist()
    ([0, 4, 8], [4])
    """
    last = last_start(frames, stride, length)
    return np.linspace(0, last, views).round().astype(int) if views > 1 else np.array([last // 2])


class RandomWindows:
    """A source of one window of each clip, {"clip": f32[n, T, Y, X, C] in 0..1, "label": i32[n]}.

    It starts at a frame drawn by (seed, epoch, index).
    """

    def __init__(self, clips: Clips, frames: int, stride: int, seed: int):
        self._clips, self._frames, self._stride, self._seed = clips, frames, stride, seed
        self._labels, self._read = clips.labels(), OrderedMap(self._window)

    def __len__(self) -> int:
        return len(self._clips)

    def gather(self, indices: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        clip = np.stack(self._read([(int(i), epoch) for i in indices]))
        return {"clip": scaled(clip), "label": self._labels[indices]}

    def _window(self, key: tuple[int, int]) -> np.ndarray:
        index, epoch = key
        length = self._clips.length(index)
        last = last_start(self._frames, self._stride, length)
        start = int(np.random.default_rng((self._seed, epoch, index)).integers(last + 1))
        return self._clips.frames(index, window(start, self._frames, self._stride, length))


class Views:
    """A source of V evenly spaced windows of each clip, {"clip": f32[n, V, T, Y, X, C] in 0..1, "label": i32[n]}."""

    def __init__(self, clips: Clips, frames: int, stride: int, views: int):
        self._clips, self._frames, self._stride, self._views = clips, frames, stride, views
        self._labels, self._read = clips.labels(), OrderedMap(self._of)

    def __len__(self) -> int:
        return len(self._clips)

    def labels(self) -> np.ndarray:
        return self._labels

    def gather(self, indices: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        """Epochs are alike."""
        return {"clip": scaled(np.stack(self._read(indices.tolist()))), "label": self._labels[indices]}

    def _of(self, index: int) -> np.ndarray:
        numbers = view_numbers(self._views, self._frames, self._stride, self._clips.length(index))
        return self._clips.frames(index, numbers.ravel()).reshape(*numbers.shape, *self._clips.shape)


def view_numbers(views: int, frames: int, stride: int, length: int) -> np.ndarray:
    """The numbers of the frames of each view, i64[V, T]."""
    return np.stack(
        [window(int(start), frames, stride, length) for start in view_starts(views, frames, stride, length)]
    )


def scaled(pixels: np.ndarray) -> np.ndarray:
    """u8 -> f32 in 0..1."""
    return pixels.astype(np.float32) / np.float32(255)
