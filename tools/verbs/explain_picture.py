"""What `almanac explain` shows of a picture or clip: the pixels that a prediction hangs on, and a classifier's favourites."""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from research.interpret import pages, pictures
from research.interpret.targets import Target, class_number
from research.interpret.visualise import visualise
from research.util.errors import UserError

METHODS = ("integrated_gradients", "saliency", "occlusion", "grad_cam", "attention_rollout")
MOST_CLASSES = 20  # of one page of preferred pictures
# What is explained: a keyword of a family's `explained` -> the option.
OPTIONS = {"class_name": "--class", "at": "--at", "box": "--box", "unit": "--unit", "other": "--with"}


class Explanation(NamedTuple):
    """Maps f64[N, Y, X] or pictures f32[N, Y, X, C], lines of text about them, and an image of them, as a PNG file."""

    pixels: np.ndarray
    facts: list[str]
    image: bytes


def explain(
    e: Any, state: Any, image: Any, method: str, steps: int = 64, size: int | None = None, sanity: bool = False,
    chosen: Mapping[str, Any] | None = None,
) -> Explanation:  # fmt: skip
    """The maps of a picture's pixels, or a clip's, for a number of its prediction.

    image    what the family's `encode` takes
    method   one of METHODS
    steps    number of points of integrated gradients
    size     pixels of an occluding square; None: a quarter of the shorter side
    sanity   whether to compare the maps with those of the same network with random weights
    chosen   what is explained, by OPTIONS; of `other` a picture, too

    Raises UserError if the family has not one of the options, or the model does not support the method.
    """
    target = _target(e, state, image, chosen or {})
    size = size or max(1, min(target.image.shape[-3:-1]) // 4)
    made = _map(method, target, state.variables, steps, size)
    pixels = np.asarray(made.pixels, np.float64)
    facts = [*target.facts, *_meaning(method, target, made, steps, size)]
    if sanity:
        other = _map(method, target, pictures.randomised(state.variables, jax.random.key(0)), steps, size).pixels
        alike = pictures.similarity(pixels, np.asarray(other))
        facts.append(
            f"rank correlation with the map of random weights: {alike:.3f}; near 1 it would tell nothing of the model"
            if np.ptp(other)
            else "with random weights the map is flat"
        )
    flat = (-1, *pixels.shape[-2:])
    pixels, shown = pixels.reshape(flat), target.image.reshape(*flat, target.image.shape[-1])
    return Explanation(pixels, facts, pages.overlays(shown, pixels, target.names, len(pixels) // len(target.image)))


def _target(e: Any, state: Any, image: Any, chosen: Mapping[str, Any]) -> Target:
    chosen = dict(chosen)
    _check(e, chosen)
    if "other" in chosen:
        chosen["other"] = e.predictor.codec.encode(chosen["other"])
    return e.explained(e, state.variables, e.predictor.codec.encode(image), **chosen)


def options(e: Any) -> list[str]:
    """Those of OPTIONS that choose what the family explains."""
    parameters = inspect.signature(e.explained).parameters if e.explained else ()
    return [name for name in OPTIONS if name in parameters]


def _check(e: Any, chosen: Mapping[str, Any]) -> None:
    """Raises UserError if the family has not one of the options."""
    known = options(e)
    for name in chosen:
        if name not in known:
            takes = ", ".join(OPTIONS[each] for each in known) or "none of these"
            raise UserError(f"{OPTIONS[name]} is not an option of {e.cfg.name}, which takes {takes}")


def preferred(e: Any, state: Any, class_name: str | None = None, steps: int = 256) -> Explanation:
    """The pictures, one a class, for which the class's logit is largest; `class_name` None: of all classes.

    Beside each logit stands the largest one of the pictures of a batch of data. Raises UserError if there is no such class, or
    there are more than MOST_CLASSES.
    """
    classes = e.data.classes
    if class_name is None and len(classes) > MOST_CLASSES:
        raise UserError(f"{len(classes)} classes are too many for one page: choose one by --class")
    chosen = np.arange(len(classes)) if class_name is None else np.array([class_number(classes, class_name)])
    rows = np.arange(len(chosen))

    def logits(x: Any) -> jax.Array:
        return e.predictor.fn(state.variables, {"image": x})["logits"]

    made = visualise(lambda x: logits(x)[rows, chosen], (len(chosen), *e.data.shape), jax.random.key(0), steps)
    split, real = _held_out(e, logits)
    titles = [f"{classes[k]}: {float(value):.2f}" for k, value in zip(chosen, made.after, strict=True)]
    facts = [
        f"{title}, the logit of the picture found; the largest of {len(real)} pictures of {split} {real[:, k].max():.2f}"
        for k, title in zip(chosen, titles, strict=True)
    ]
    images = np.asarray(made.image)
    return Explanation(images, facts, pages.gallery(images, titles))


def preferred_unit(e: Any, state: Any, unit: int, steps: int = 256) -> Explanation:
    """The picture for which one number of an encoder's output is largest, and beside it the largest of a batch of data.

    Raises UserError if there is no such number, or the model reads more than a picture.
    """
    if list(e.predictor.codec.inputs) != ["image"]:
        raise UserError(f"{e.cfg.name} reads a class, too: --visualise is for a model that reads a picture alone")
    shape = (1, *e.data.shape)
    target = e.explained(e, state.variables, {"image": np.zeros(shape, np.float32)}, unit=unit)
    score = partial(target.score, state.variables)
    made = visualise(score, shape, jax.random.key(0), steps)
    split, real = _held_out(e, score)
    title, image = f"unit {unit}: {float(made.after[0]):.2f}", np.asarray(made.image)
    fact = f"{title}, of the picture found; the largest of {len(real)} pictures of {split} {real.max():.2f}"
    return Explanation(image, [fact], pages.gallery(image, [title]))


def preferred_to(
    e: Any, state: Any, image: Any, steps: int = 256, chosen: Mapping[str, Any] | None = None
) -> Explanation:
    """The picture, or the frames, for which what `explain` would explain of `image` is largest, from grey noise.

    Where several numbers are explained, a picture for each. Raises UserError if the family has not one of the options.
    """
    target = _target(e, state, image, chosen or {})
    shape = target.image.shape

    def score(x: jax.Array) -> jax.Array:
        return target.score(state.variables, x.reshape(shape))

    made = visualise(score, (math.prod(shape[:-3]), *shape[-3:]), jax.random.key(0), steps)
    was, values = np.asarray(score(target.image)), np.asarray(made.after)
    facts = [
        f"{target.quantity} {found:.4f} of the picture found, {given:.4f} of the one given"
        for found, given in zip(values, was, strict=True)
    ]
    images = np.asarray(made.image)
    titles = [f"{target.quantity} {value:.2f}" for value in values for _ in range(len(images) // len(values))]
    return Explanation(images, [*target.facts, *facts], pages.gallery(images, titles))


def _held_out(e: Any, score: Callable[[Any], jax.Array]) -> tuple[str, np.ndarray]:
    """A split's name, and `score` of the pictures of its first batch."""
    split, batches = next(iter(e.evals.items()))
    batch = batches.batch(0)
    return split, np.asarray(jax.jit(score)(batch["image"]))[batch["mask"] > 0]


def _map(method: str, target: Target, variables: Any, steps: int, size: int) -> pictures.Map:
    def score(x: Any) -> jax.Array:
        return target.score(variables, x)

    if method == "attention_rollout":
        if target.transformer is None:
            raise UserError(
                f"--method={method}: the model is no transformer of patches alone; another method explains it"
            )
        return pictures.attention_rollout(score, target.transformer, variables, target.image)
    methods: dict[str, Callable[[], pictures.Map]] = {
        "integrated_gradients": lambda: pictures.integrated_gradients(score, target.image, steps=steps),
        "saliency": lambda: pictures.saliency(score, target.image),
        "occlusion": lambda: pictures.occlusion(score, target.image, size),
        "grad_cam": lambda: pictures.grad_cam(score, target.image, target.features),
    }
    return methods[method]()


def _meaning(method: str, target: Target, made: pictures.Map, steps: int, size: int) -> list[str]:
    what = target.quantity
    if method == "integrated_gradients":
        assert made.baseline is not None and made.gap is not None
        rows = [f"{name}: " for name in target.names] if len(made.gap) > 1 else [""]
        return [
            f"{row}the map's sum is {float(pixels.sum()):.4f}: the {what} minus {float(baseline):.4f}, that of a black picture, "
            f"up to an error of {abs(float(gap)):.1e} ({steps} steps)"
            for row, pixels, baseline, gap in zip(rows, made.pixels, made.baseline, made.gap, strict=True)
        ]
    meanings = {
        "saliency": f"a pixel's value is the magnitude of the {what}'s gradient, the largest of its channels",
        "occlusion": f"a pixel's value is the mean fall of the {what}, of the black squares of {size} pixels that cover it",
        "attention_rollout": "a patch's value is its share in what the head reads, if only attention mixed them; of no class",
        "grad_cam": f"the last maps of features, weighted by the {what}'s mean gradients, where they raise it",
    }
    return [meanings[method]]
