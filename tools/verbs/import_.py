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

LENGTH = 2_048  # tokens a row at most, where positions that need no table would allow for many more
BATCH = 8  # rows: with vocabularies of tens of thousands, logits are large
TOKENIZER = "tokenizer.json"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac import", allow_abbrev=False, epilog="config keys: almanac show NAME",
        description="Makes a run directory of Hugging Face weights, config.json and safetensors, as one that has trained for no "
        "step: sample, evaluate, export and train go on from it.",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what transformers' save_pretrained writes")
    parser.add_argument("--out", type=Path, metavar="RUN", help="a new run directory (default: runs/FAMILY/NAME)")
    args, changes = options.overrides(argv, parser)
    source = huggingface.read(args.folder)
    if source.missing:
        raise UserError(
            f"{args.folder} lacks {source.theirs[source.missing[0]]}, {source.missing[0]} here: it is no whole model; begin "
            f"with it by almanac train NAME --init-from={args.folder} --config.pretrained.fresh=PATHS"
        )
    name = f"{source.architecture.family}/" + re.sub(r"[^\w.-]", "_", args.folder.resolve().name)
    out = args.out or Path(options.DEFAULT_ROOT) / name
    device.use_compilation_cache()
    said = io.StringIO()
    with huggingface.new_folder(out) as made:
        cfg = configure(source, name, made, changes)
        with contextlib.redirect_stdout(said):
            e = begin(cfg, made)
        _settle(made, out)
    print(f"{visible(said.getvalue().replace(str(made), str(out)), keep=TEXT)}\nNext:")
    sample = ["sample"] if e.sample else []
    for words in (*sample, "evaluate", "export", f"train {out}/config.json --workdir"):
        print(visible(f"  almanac {words} {out}"))
    return 0


def configure(source: Source, name: str, made: Path, changes: Sequence[str]) -> Any:
    """The family's defaults, with the folder's model, tokenizer and length; then the changes that were asked for."""
    family = source.architecture.family
    cfg = config.defaults(family)
    own = any(change.startswith("data.tokenizer=") for change in changes)
    groups = {
        "model": {key: value for key, value in source.attributes.items() if key in cfg.model},
        "data": {k: v for k, v in _sizes(source).items() if k in cfg.data} | ({} if own else _tokenizer(source, made)),
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


def _tokenizer(source: Source, made: Path) -> dict[str, Any]:
    """Copies the tokenizer into the run, and says so in its config."""
    file, rows = Path(source.where) / TOKENIZER, source.attributes["vocab_size"]
    if not file.is_file():
        raise UserError(
            f"{source.where} has no {TOKENIZER}, and other forms are not read: name a tokenizer of {rows:,} tokens by "
            "--config.data.tokenizer=NAME, or the path of a tokenizer.json"
        )
    with write_errors(made):
        shutil.copyfile(file, made / TOKENIZER)
    return {"tokenizer": str(made / TOKENIZER), "vocab_size": rows}


def begin(cfg: Any, folder: Path) -> Experiment:
    """A run directory with the checkpoint of step 0; its experiment."""
    e = reopen.build(cfg.name, cfg)
    with Run(e, folder) as run:
        state = run.start(trains=False)
        run.num_steps = 0  # in this life
        for _ in run.batches():
            pass
        run.finish(run.save(state))
    return e


def _settle(made: Path, out: Path) -> None:
    """What the run says of its own folder becomes true when that has its name."""
    about = read_json(made / "config.json")
    data = about["config"]["data"]
    if data.get("tokenizer") == str(made / TOKENIZER):
        data["tokenizer"] = str(out.absolute() / TOKENIZER)
        write_json(made / "config.json", about)
