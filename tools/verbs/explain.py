"""`almanac explain RUN`: what a prediction hangs on, by token or by pixel, and the pictures that a network prefers."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from research.data.images.classification import ImageClassification
from research.data.text.classification import TextClassification
from research.interpret import attention, attributions, pages
from research.run import reopen
from research.util import run_files
from research.util.errors import UserError, nearest
from research.util.escape import visible
from research.util.files import write_bytes, write_text
from tools.verbs import arguments, explain_picture

METHODS = ("attention", "gradient_x_input", "integrated_gradients")


class Explanation(NamedTuple):
    """The tokens' text, their scores f64[t], lines of text about them, and images by name, as PNG files."""

    words: list[str]
    scores: np.ndarray
    facts: list[str]
    images: dict[str, bytes]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac explain",
        description="Explains a prediction by a score for each token of a text or pixel of a picture: a page and an image.",
    )
    arguments.add_run(parser)
    parser.add_argument("--text", help="the text to explain")
    parser.add_argument("--image", type=Path, metavar="FILE", help="the picture or clip to explain")
    parser.add_argument(
        "--method", default="integrated_gradients",
        help=f"of a text {', '.join(METHODS)}; of a picture {', '.join(explain_picture.METHODS)} (default: integrated_gradients)",
    )  # fmt: skip
    chosen = parser.add_argument_group("what is explained, where the family has it")
    chosen.add_argument("--class", dest="class_name", metavar="NAME", help="this class (default: the top-1)")
    chosen.add_argument(
        "--at",
        metavar="Y,X",
        help="segmentation, restoration, style_transfer: the pixel of this row and column, from 0,0",
    )
    chosen.add_argument("--box", type=int, metavar="N", help="detection: the N-th best box (default: 1)")
    chosen.add_argument("--unit", type=int, metavar="N", help="encoders: this number of the embedding or code, from 0")
    chosen.add_argument(
        "--with", dest="other", type=Path, metavar="FILE", help="verification: the picture to compare with"
    )
    parser.add_argument(
        "--visualise",
        action="store_true",
        help="the picture with the largest logit of each class, or for which the --unit of an encoder is largest; "
        "with --image, for which what is explained of that picture is",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help="integrated gradients: number of points (default: 64); --visualise: of steps (default: 256)",
    )
    parser.add_argument(
        "--size", type=int, help="occlusion: pixels of a square (default: a quarter of the shorter side)"
    )
    parser.add_argument("--sanity", action="store_true", help="of a picture: compare with the map of random weights")
    parser.add_argument("--out", type=Path, metavar="FILE", help="FILE.html and FILE.png (default: RUN/samples/METHOD)")
    parser.add_argument(
        "--agreement", action="store_true", help="print instead Kendall's tau of attention and gradients over --split"
    )
    parser.add_argument("--split", default="test", help="for --agreement (default: test)")
    args = parser.parse_args(argv)
    asked = [args.agreement, args.visualise and args.image is None, args.text is not None, args.image is not None]
    if asked.count(True) != 1:
        raise UserError("want one of --text=TEXT, --image=FILE, --visualise and --agreement")
    if args.steps is not None and args.steps < 1:
        raise UserError(f"--steps={args.steps}: at least 1")
    known = METHODS if args.image is None else explain_picture.METHODS
    if args.method not in known:
        raise UserError(f"--method={args.method}{nearest(args.method, known)}")
    e, state, step = reopen.load(args.run, args.checkpoint)
    of_text = args.image is None and not args.visualise
    _check(e, args, of_text)
    if args.agreement:
        return _agreement(e, state, args.split)
    method = "visualise" if args.visualise else args.method
    out = args.out or run_files.inside(Path(args.run), "samples") / method
    title = f"{e.cfg.name}, step {step:,}: {method.replace('_', ' ')}"
    if of_text:
        result = explain(e, state, args.text, args.method, args.class_name, args.steps or 64)
    else:
        result = _of_pictures(e, state, args)
    out.parent.mkdir(parents=True, exist_ok=True)
    (name, image), *_ = result.images.items()
    write_bytes(out.with_suffix(".png"), image)
    write_text(out.with_suffix(".html"), pages.page(title, result.facts, result.words, result.scores, result.images))
    print("\n".join(map(visible, result.facts)))
    for word, score in zip(result.words, result.scores, strict=True):
        print(f"  {score:>9.4f}  {visible(word)}")
    print(f"{visible(out.with_suffix('.html'))}\n{visible(out.with_suffix('.png'))} ({name})")
    return 0


def _check(e: Any, args: argparse.Namespace, of_text: bool) -> None:
    """Raises UserError if the run is not of a family that is explained so, or an option is of pictures alone."""
    if args.image:
        if e.explained is None:
            raise UserError(f"{e.cfg.name} explains no picture: --image is for the families of docs/explain.md")
        return
    if of_text and not isinstance(e.data, TextClassification):
        raise UserError(f"{e.cfg.name} is no text classifier: --text explains only these")
    allowed = ["class_name"]
    if args.visualise and "unit" in explain_picture.options(e):
        allowed = ["unit"]
        if args.unit is None:
            raise UserError(f"--visualise of {e.cfg.name} is of one number of its output: give --unit=N")
    elif args.visualise and not isinstance(e.data, ImageClassification):
        raise UserError(f"{e.cfg.name} is no picture classifier or encoder: --visualise explains only these")
    for name, option in explain_picture.OPTIONS.items():
        if name not in allowed and getattr(args, name) is not None:
            raise UserError(f"{option} chooses what is explained of a picture: it is for --image")


def _of_pictures(e: Any, state: Any, args: argparse.Namespace) -> Explanation:
    if args.visualise and args.image is None:
        steps = args.steps or 256
        if args.unit is None:
            _, facts, image = explain_picture.preferred(e, state, args.class_name, steps)
        else:
            _, facts, image = explain_picture.preferred_unit(e, state, args.unit, steps)
        return Explanation([], np.zeros(0), facts, {"preferred pictures": image})
    chosen = {name: value for name in explain_picture.OPTIONS if (value := getattr(args, name)) is not None}
    read = e.predictor.codec.read
    if "at" in chosen:
        chosen["at"] = _pixel(args.at)
    if "other" in chosen:
        chosen["other"] = read(args.other)
    if args.visualise:
        _, facts, image = explain_picture.preferred_to(e, state, read(args.image), args.steps or 256, chosen)
        return Explanation([], np.zeros(0), facts, {"preferred pictures": image})
    numbers = (args.method, args.steps or 64, args.size, args.sanity)
    _, facts, image = explain_picture.explain(e, state, read(args.image), *numbers, chosen)
    return Explanation([], np.zeros(0), facts, {"pixels": image})


def _pixel(at: str) -> tuple[int, int]:
    if not re.fullmatch(r"\d+,\d+", at):
        raise UserError(f"--at={at}: want a row and a column, such as --at=12,30")
    row, column = map(int, at.split(","))
    return row, column


def explain(e: Any, state: Any, text: str, method: str, class_name: str | None = None, steps: int = 64) -> Explanation:
    """The scores of a text's tokens for the probability of a class.

    method        one of METHODS
    class_name    the class to explain; None: the top-1
    steps         number of points of integrated gradients

    Raises UserError if the text is empty, there is no such class, or the model does not support the method.
    """
    data = e.data
    if not text.strip():
        raise UserError("--text is empty: there is nothing to explain")
    ids, words = data.encoder.words(text)
    inputs = {"tokens": ids[None], "length": np.array([len(ids)], np.int32)}
    p = np.asarray(jax.jit(e.predictor.fn)(state.variables, inputs)["probabilities"])[0]
    if class_name is not None and class_name not in data.classes:
        raise UserError(f"--class={class_name}{nearest(class_name, data.classes)}")
    k = int(p.argmax()) if class_name is None else data.classes.index(class_name)
    facts = [
        f"{data.classes[k]}: probability {p[k]:.4f}"
        + ("" if class_name is None else f"; top-1 {data.classes[p.argmax()]}")
    ]
    if method == "attention":
        return _attention(e, state, inputs, words, facts)

    def score() -> jax.Array:
        return e.predictor.fn(state.variables, inputs)["probabilities"][:, k]

    if method == "gradient_x_input":
        attribution = attributions.gradient_x_input(score)
        facts.append("a token's score is gradient x input of the probability")
    else:
        attribution = attributions.integrated_gradients(score, steps)
        facts.append(
            f"the scores' sum is {float(attribution.tokens.sum()):.4f}: the probability minus "
            f"{float(attribution.baseline[0]):.4f}, that of the baseline (no words), up to an error of "
            f"{abs(float(attribution.gap[0])):.1e} ({steps} steps)"
        )
    scores = np.asarray(attribution.tokens[0], np.float64)
    return Explanation(words, scores, facts, {"tokens": pages.bars(words, scores, facts[0])})


def _attention(e: Any, state: Any, inputs: dict, words: list[str], facts: list[str]) -> Explanation:
    """The weights of attention pooling; or those of the last self-attention layer, for the token that predicts the class."""
    model = e.model
    layers = attention.maps(model, state.variables, *inputs.values())
    if not layers:
        _, weights = attention.pooled(lambda: e.predictor.fn(state.variables, inputs))
        scores = np.asarray(weights[0], np.float64)
        lines = [*facts, "a token's score is its weight in attention pooling"]
        return Explanation(words, scores, lines, {"weights": pages.bars(words, scores, facts[0])})
    maps = {name: layer[0] for name, layer in layers.items()}
    last = list(maps.values())[-1].mean(0)
    query = 0 if e.cfg.model.name == "bert" else -1
    lines = [
        *facts,
        f"a token's score is its attention weight in the last layer for query {words[query]!r}, averaged over heads",
    ]
    return Explanation(words, last[query].astype(np.float64), lines, {"heads and layers": pages.heads(words, maps)})


def _agreement(e: Any, state: Any, split: str) -> int:
    """Prints Kendall's tau of attention and gradients: mean and sd over a split, and by predicted class."""
    if split not in e.evals:
        raise UserError(f"--split={split}: this experiment has no such split{nearest(split, e.evals)}")
    batches = e.evals[split]

    def predict(batch: Any) -> jax.Array:
        return e.predictor.fn(state.variables, batch)["probabilities"]

    agreement = attention.agreement(predict, (batches.batch(i) for i in range(len(batches))))
    tau, classes = agreement["tau"], agreement["class"]
    defined = np.isfinite(tau)
    print(
        f"{split}: Kendall's tau of attention and gradient, mean ± sd over {defined.sum():,} texts of at least two tokens"
    )
    for name, rows in _rows(e.data.classes, classes):
        if (values := tau[defined & rows]).size:
            print(f"  {visible(name):<24} {values.mean():7.3f} ± {values.std():.3f}  ({values.size:,})")
    return 0


def _rows(names: Sequence[str], classes: np.ndarray) -> list[tuple[str, np.ndarray]]:
    by_class = [(f"top-1 {name}"[:24], classes == k) for k, name in enumerate(names)]
    return [("all", np.ones(len(classes), bool)), *by_class]
