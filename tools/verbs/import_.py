"""`almanac import FOLDER [--out RUN] [--config.KEY=VALUE ...]`"""

import argparse
import contextlib
import io
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import options
from research.cluster import device
from research.core import config
from research.core.experiment import Experiment
from research.interop import huggingface
from research.interop.huggingface import Source
from research.run import reopen
from research.run.run import Run
from research.util.errors import UserError
from research.util.escape import TEXT, visible
from research.util.files import read_json, write_errors, write_json

LENGTH = 2_048  # the most tokens per row, for models without a position table, whose own limit is much larger
BATCH = 8  # rows; small, because logits over tens of thousands of tokens are large
TOKENIZER = "tokenizer.json"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac import", allow_abbrev=False, epilog="config keys: almanac show NAME",
        description="Makes a run directory, at step 0, from a folder with Hugging Face's config.json and safetensors weights, "
        "for sample, evaluate, export and train.",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="as written by transformers' save_pretrained")
    parser.add_argument("--out", type=Path, metavar="RUN", help="a new run directory (default: runs/FAMILY/NAME)")
    args, changes = options.overrides(argv, parser)
    source = huggingface.read(args.folder)
    if "vocab_size" not in source.attributes:
        raise UserError(
            f"{args.folder} holds a {source.architecture.name}, whose classes are those of your pictures: start from it with "
            f"almanac train NAME --config.pretrained.weights={args.folder} --config.pretrained.fresh=^head/"
        )
    if source.missing:
        raise UserError(
            f"{args.folder} lacks {source.theirs[source.missing[0]]}, {source.missing[0]} here: the model is incomplete; start "
            f"from it with almanac train NAME --init-from={args.folder} --config.pretrained.fresh=PATHS"
        )
    name = f"{source.architecture.family}/" + re.sub(r"[^\w.-]", "_", args.folder.resolve().name)
    out = args.out or Path(options.DEFAULT_ROOT) / name
    device.use_compilation_cache()
    output = io.StringIO()
    with huggingface.new_folder(out) as temporary:
        cfg = configure(source, name, temporary, changes)
        with contextlib.redirect_stdout(output):
            e = begin(cfg, temporary)
        _replace_path(temporary, out)
    print(f"{visible(output.getvalue().replace(str(temporary), str(out)), keep=TEXT)}\nNext:")
    sample = ["sample"] if e.sample else []
    for words in (*sample, "evaluate", "export", f"train {out}/config.json --workdir"):
        print(visible(f"  almanac {words} {out}"))
    return 0


def configure(source: Source, name: str, folder: Path, changes: Sequence[str]) -> Any:
    """The config of an imported run: the family's defaults, the source's model, tokenizer and length, then `changes`.

    name       the run's name, FAMILY/NAME
    folder     the run directory, to which the tokenizer is copied
    changes    overrides, as "key=value"

    Raises UserError if the source has no tokenizer.json and `changes` name none, or an override is invalid.
    """
    family = source.architecture.family
    cfg = config.defaults(family)
    overridden = any(change.startswith("data.tokenizer=") for change in changes)
    groups = {
        "model": {key: value for key, value in source.attributes.items() if key in cfg.model},
        "data": {k: v for k, v in _sizes(source).items() if k in cfg.data}
        | ({} if overridden else _tokenizer(source, folder)),
        "pretrained": {"weights": source.where},
    }
    with cfg.unlocked(), cfg.ignore_type():
        cfg.name = name
        for group, values in groups.items():
            cfg[group].update(values)
    for change in changes:
        key, _, value = change.partition("=")
        config.override(cfg, key, value)
    return cfg.lock()


def _sizes(source: Source) -> dict[str, int]:
    length = source.attributes["max_length"]
    tables = any(path.startswith("position/") or "/position/" in path for path in source.arrays)
    sizes = {"length": length if tables else min(length, LENGTH), "batch_size": BATCH, "eval_batch_size": BATCH}
    return {**sizes, "decoder_start": huggingface.decoder_start(source.config)}


def _tokenizer(source: Source, folder: Path) -> dict[str, Any]:
    """Copies the tokenizer into the run directory -> the config keys that name it."""
    file, vocab_size = Path(source.where) / TOKENIZER, source.attributes["vocab_size"]
    if not file.is_file():
        raise UserError(
            f"{source.where} has no {TOKENIZER}, and other formats are not read: name a tokenizer of {vocab_size:,} tokens by "
            "--config.data.tokenizer=NAME, or the path of a tokenizer.json"
        )
    with write_errors(folder):
        shutil.copyfile(file, folder / TOKENIZER)
    return {"tokenizer": str(folder / TOKENIZER), "vocab_size": vocab_size}


def begin(cfg: Any, folder: Path) -> Experiment:
    """Writes a run directory with a checkpoint of step 0 -> its experiment."""
    e = reopen.build(cfg.name, cfg)
    with Run(e, folder) as run:
        state = run.start(trains=False)
        run.num_steps = 0  # of this attempt
        for _ in run.batches():
            pass
        run.finish(run.save(state))
    return e


def _replace_path(temporary: Path, out: Path) -> None:
    """Replaces the path of the temporary folder in the run's config by its final path."""
    about = read_json(temporary / "config.json")
    data = about["config"]["data"]
    if data.get("tokenizer") == str(temporary / TOKENIZER):
        data["tokenizer"] = str(out.absolute() / TOKENIZER)
        write_json(temporary / "config.json", about)
