"""`almanac explain RUN --text TEXT [--method ...]`, or `--agreement`: what a classifier of texts makes of each token."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from research.data.text.classification import TextClassification
from research.interpret import attention, attributions, pages
from research.run import reopen
from research.util import run_files
from research.util.errors import UserError, nearest
from research.util.escape import visible
from research.util.files import write_bytes, write_text
from tools.verbs import arguments

METHODS = ("attention", "gradient_x_input", "integrated_gradients")


class Explained(NamedTuple):
    """`scores` f64[t] of the `words`, pictures by name as PNG, and what to say of them."""

    words: list[str]
    scores: np.ndarray
    facts: list[str]
    pictures: dict[str, bytes]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac explain", description="What a classifier of texts makes of each token: a page and a picture."
    )
    arguments.add_run(parser)
    parser.add_argument("--text", help="the text to explain")
    parser.add_argument("--method", default="integrated_gradients", metavar="|".join(METHODS))
    parser.add_argument("--class", dest="called", metavar="NAME", help="explain this class (default: the likeliest)")
    parser.add_argument("--steps", type=int, default=64, help="integrated gradients: places on the way (default: 64)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="FILE.html and FILE.png (default: RUN/samples/METHOD)")
    parser.add_argument(
        "--agreement", action="store_true", help="instead: Kendall's tau of attention and gradients over --split"
    )
    parser.add_argument("--split", default="test", help="of --agreement (default: test)")
    args = parser.parse_args(argv)
    if args.agreement == (args.text is not None):
        raise UserError("want --text=TEXT, or --agreement, and not both")
    if args.method not in METHODS:
        raise UserError(f"--method={args.method}{nearest(args.method, METHODS)}")
    e, state, step = reopen.load(args.run, args.checkpoint)
    if not isinstance(e.data, TextClassification):
        raise UserError(f"{e.cfg.name} does not classify texts: there is no token to explain it by")
    if args.agreement:
        return _agreement(e, state, args.split)
    found = explain(e, state, args.text, args.method, args.called, args.steps)
    out = args.out or run_files.inside(Path(args.run), "samples") / args.method
    title = f"{e.cfg.name}, step {step:,}: {args.method.replace('_', ' ')}"
    out.parent.mkdir(parents=True, exist_ok=True)
    (name, picture), *_ = found.pictures.items()
    write_bytes(out.with_suffix(".png"), picture)
    write_text(out.with_suffix(".html"), pages.page(title, found.facts, found.words, found.scores, found.pictures))
    print("\n".join(map(visible, found.facts)))
    for word, score in zip(found.words, found.scores, strict=True):
        print(f"  {score:>9.4f}  {visible(word)}")
    print(f"{visible(out.with_suffix('.html'))}\n{visible(out.with_suffix('.png'))} ({name})")
    return 0


def explain(e: Any, state: Any, text: str, method: str, called: str | None = None, steps: int = 64) -> Explained:
    """A text as the run reads it -> the scores of its tokens by `method`, for the class `called`, by default the likeliest."""
    data = e.data
    if not text.strip():
        raise UserError("--text is empty: there is nothing to explain")
    ids, words = data.encoder.words(text)
    inputs = {"tokens": ids[None], "length": np.array([len(ids)], np.int32)}
    p = np.asarray(jax.jit(e.predictor.fn)(state.variables, inputs)["probabilities"])[0]
    if called is not None and called not in data.classes:
        raise UserError(f"--class={called}{nearest(called, data.classes)}")
    k = int(p.argmax()) if called is None else data.classes.index(called)
    facts = [
        f"{data.classes[k]}: probability {p[k]:.4f}"
        + ("" if called is None else f"; likeliest {data.classes[p.argmax()]}")
    ]
    if method == "attention":
        return _attention(e, state, inputs, words, facts)

    def score() -> jax.Array:
        return e.predictor.fn(state.variables, inputs)["probabilities"][:, k]

    if method == "gradient_x_input":
        found = attributions.gradient_x_input(score)
        facts.append("a token's score is the probability's derivative along its embedding")
    else:
        found = attributions.integrated_gradients(score, steps)
        facts.append(
            f"the scores' sum is {float(found.tokens.sum()):.4f}: the probability less the {float(found.baseline[0]):.4f} of no "
            f"word at all, but for {abs(float(found.gap[0])):.1e} ({steps} steps)"
        )
    scores = np.asarray(found.tokens[0], np.float64)
    return Explained(words, scores, facts, {"tokens": pages.bars(words, scores, facts[0])})


def _attention(e: Any, state: Any, inputs: dict, words: list[str], facts: list[str]) -> Explained:
    """Pooling's weights; else, of self-attention, what the token that the class is read from looks at in the last layer."""
    model = e.model
    layers = attention.maps(model, state.variables, *inputs.values())
    if not layers:
        _, found = attention.pooled(lambda: e.predictor.fn(state.variables, inputs))
        scores = np.asarray(found[0], np.float64)
        said = [*facts, "a token's score is its weight where attention pools"]
        return Explained(words, scores, said, {"weights": pages.bars(words, scores, facts[0])})
    alone = {name: layer[0] for name, layer in layers.items()}
    last = list(alone.values())[-1].mean(0)
    read = 0 if e.cfg.model.name == "bert" else -1
    said = [
        *facts,
        f"a token's score is its weight in the last layer, mean of the heads, as {words[read]!r} looks back",
    ]
    return Explained(words, last[read].astype(np.float64), said, {"heads and layers": pages.heads(words, alone)})


def _agreement(e: Any, state: Any, split: str) -> int:
    """Prints Kendall's tau of attention and gradients over a split: mean and sd, of all and by the class called."""
    if split not in e.evals:
        raise UserError(f"--split={split}: this experiment has no such split{nearest(split, e.evals)}")
    batches = e.evals[split]

    def predict(batch: Any) -> jax.Array:
        return e.predictor.fn(state.variables, batch)["probabilities"]

    found = attention.agreement(predict, (batches.batch(i) for i in range(len(batches))))
    tau, classes = found["tau"], found["class"]
    known = np.isfinite(tau)
    print(
        f"{split}: Kendall's tau of attention and gradient, mean ± sd over {known.sum():,} texts of two tokens or more"
    )
    for name, rows in _rows(e.data.classes, classes):
        if (values := tau[known & rows]).size:
            print(f"  {visible(name):<24} {values.mean():7.3f} ± {values.std():.3f}  ({values.size:,})")
    return 0


def _rows(names: Sequence[str], classes: np.ndarray) -> list[tuple[str, np.ndarray]]:
    each = [(f"called {name}"[:24], classes == k) for k, name in enumerate(names)]
    return [("all", np.ones(len(classes), bool)), *each]
