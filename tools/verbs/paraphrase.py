"""`almanac paraphrase RUN FAMILY/NAME --out FILE`: the training texts of a text classifier, translated there and back."""

import argparse
import json
from pathlib import Path

from experiments import options
from research.core import config
from research.run import object_store
from research.util.errors import UserError
from research.util.escape import visible
from research.util.files import write_text


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac paraphrase", allow_abbrev=False,
        description="Translates the training texts of a config of text_classification by a translation run, and back, and "
        "writes what they become as the JSONL file that data.paraphrases reads.",
    )  # fmt: skip
    parser.add_argument("run", type=object_store.fetch, metavar="RUN", help="a translation run, of both ways or --back")
    parser.add_argument("name", metavar="FAMILY/NAME", help="whose training texts: text_classification/sst2_small")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .jsonl to write")
    parser.add_argument("--back", type=object_store.fetch, metavar="RUN", help="a run of the reversed pair")
    parser.add_argument("--count", default="3", metavar="N", help="translations drawn of each text (default: 3)")
    parser.add_argument("--temperature", type=float, default=0.7, help="of the translation out (default: 0.7)")
    parser.add_argument("--seed", default="0", help="of what is drawn (default: 0)")
    args, overrides = options.overrides(argv, parser)
    count, seed = options.parse_int("--count", args.count, 1), options.parse_int("--seed", args.seed, 0)
    if not 0 < args.temperature < float("inf"):
        raise UserError(f"--temperature={args.temperature}: above 0")
    if config.family(args.name) != "text_classification":
        raise UserError(f"{args.name} has no texts to paraphrase: name a config of text_classification")
    cfg = config.load(args.name, overrides)

    from experiments.translation.back_translation import paraphrases
    from research.data.text import classification
    from research.run import reopen

    texts = classification.training_texts(cfg.data, cfg.seed)
    out, back = reopen.load(args.run)[:2], reopen.load(args.back)[:2] if args.back else None
    made = paraphrases(out, back, texts, count=count, temperature=args.temperature, seed=seed)
    lines = [{"text": text, "paraphrases": others} for text, others in zip(texts, made.rows, strict=True)]
    write_text(args.out, "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))
    print(
        f"{visible(args.out)}: {sum(map(len, made.rows)):,} paraphrases of {len(texts):,} texts; "
        f"{made.rows.count([]):,} have none, {made.too_long:,} of them because they are longer than the model reads"
    )
    return 0
