"""What `almanac explain` shows of a picture classifier: the pixels that it chose a class for, and its preferred pictures."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from research.interpret import pages, pictures
from research.interpret.visualise import visualise
from research.util.errors import UserError, nearest

METHODS = ("integrated_gradients", "saliency", "occlusion", "grad_cam", "attention_rollout")
MOST_CLASSES = 20  # of one page of preferred pictures


class Explanation(NamedTuple):
    """A map f64[Y, X] or pictures f32[N, Y, X, C], lines of text about them, and an image of them, as a PNG file."""

    pixels: np.ndarray
    facts: list[str]
    image: bytes


def explain(
    e: Any, state: Any, image: Any, method: str, class_name: str | None = None, steps: int = 64, size: int | None = None,
    sanity: bool = False,
) -> Explanation:  # fmt: skip
    """The map of a picture's pixels for the logit of a class.

    image       what the family's `encode` takes
    method      one of METHODS
    class_name  the class to explain; None: the top-1
    steps       number of points of integrated gradients
    size        pixels of an occluding square; None: a quarter of the shorter side
    sanity      whether to compare the map with that of the same network with random weights

    Raises UserError if there is no such class, or the model does not support the method.
    """
    inputs, classes = e.predictor.codec.encode(image), e.data.classes
    shown = np.asarray(inputs["image"])
    p = np.asarray(jax.jit(e.predictor.fn)(state.variables, inputs)["probabilities"])[0]
    if class_name is not None and class_name not in classes:
        raise UserError(f"--class={class_name}{nearest(class_name, classes)}")
    k = int(p.argmax()) if class_name is None else classes.index(class_name)
    top = "" if class_name is None else f"; top-1 {classes[p.argmax()]}"
    facts = [f"{classes[k]}: probability {p[k]:.4f}{top}"]

    def make(variables: Any) -> pictures.Map:
        def outputs(x: Any) -> Any:
            return e.predictor.fn(variables, {"image": x})

        if method == "attention_rollout":
            return pictures.attention_rollout(outputs, e.model, variables, shown)
        return _method(method, shown, steps, size)(lambda x: outputs(x)["logits"][:, k], shown)

    made = make(state.variables)
    pixels = np.asarray(made.pixels[0], np.float64)
    facts.append(_meaning(method, made, steps, size or _quarter(shown)))
    if sanity:
        other = make(pictures.randomised(state.variables, jax.random.key(0))).pixels[0]
        alike = pictures.similarity(pixels, np.asarray(other))
        facts.append(
            f"rank correlation with the map of random weights: {alike:.3f}; near 1 it would tell nothing of the model"
        )
    return Explanation(pixels, facts, pages.overlay(shown[0], pixels, facts[0]))


def preferred(e: Any, state: Any, class_name: str | None = None, steps: int = 256) -> Explanation:
    """The pictures, one a class, for which the class's logit is largest; `class_name` None: of all classes.

    Beside each logit stands the largest one of the pictures of a batch of data. Raises UserError if there is no such class, or
    there are more than MOST_CLASSES.
    """
    classes = e.data.classes
    if class_name is not None and class_name not in classes:
        raise UserError(f"--class={class_name}{nearest(class_name, classes)}")
    if class_name is None and len(classes) > MOST_CLASSES:
        raise UserError(f"{len(classes)} classes are too many for one page: choose one by --class")
    chosen = np.arange(len(classes)) if class_name is None else np.array([classes.index(class_name)])
    rows = np.arange(len(chosen))

    def logits(x: Any) -> jax.Array:
        return e.predictor.fn(state.variables, {"image": x})["logits"]

    made = visualise(lambda x: logits(x)[rows, chosen], (len(chosen), *e.data.shape), jax.random.key(0), steps)
    split, batches = next(iter(e.evals.items()))
    batch = batches.batch(0)
    real = np.asarray(jax.jit(logits)(batch["image"]))[batch["mask"] > 0]
    titles = [f"{classes[k]}: {float(value):.2f}" for k, value in zip(chosen, made.after, strict=True)]
    facts = [
        f"{title}, the logit of the picture found; the largest of {len(real)} pictures of {split} {real[:, k].max():.2f}"
        for k, title in zip(chosen, titles, strict=True)
    ]
    images = np.asarray(made.image)
    return Explanation(images, facts, pages.gallery(images, titles))


def _method(method: str, shown: np.ndarray, steps: int, size: int | None) -> Callable[[Any, Any], pictures.Map]:
    if method == "integrated_gradients":
        return lambda score, x: pictures.integrated_gradients(score, x, steps=steps)
    if method == "occlusion":
        return lambda score, x: pictures.occlusion(score, x, size or _quarter(shown))
    return pictures.saliency if method == "saliency" else pictures.grad_cam


def _quarter(shown: np.ndarray) -> int:
    return max(1, min(shown.shape[1:3]) // 4)


def _meaning(method: str, made: pictures.Map, steps: int, size: int) -> str:
    if method == "integrated_gradients":
        assert made.baseline is not None and made.gap is not None
        return (
            f"the map's sum is {float(made.pixels.sum()):.4f}: the logit minus {float(made.baseline[0]):.4f}, that of a black "
            f"picture, up to an error of {abs(float(made.gap[0])):.1e} ({steps} steps)"
        )
    return {
        "saliency": "a pixel's value is the magnitude of the logit's gradient, the largest of its channels",
        "occlusion": f"a pixel's value is the mean fall of the logit, of the black squares of {size} pixels that cover it",
        "attention_rollout": "a patch's value is its share in what the head reads, if only attention mixed them; of no class",
        "grad_cam": "the last maps of features, weighted by the logit's mean gradients, where they raise it",
    }[method]
