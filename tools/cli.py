"""`almanac VERB ...`: hands over to `tools.verbs.VERB.main(argv)` (or `tools.dev`, `import_`), which returns an exit status.

JAX, the models and Orbax take most of a second to import. A verb that computes nothing does not import them, and one that does
imports them after it has read its command line, so that `--help` and a mistake are answered at once.
"""

import importlib
import keyword
import sys

from research.cluster import cpu
from research.cluster.exits import guarded
from research.util.errors import nearest
from research.util.escape import visible

VERBS = {
    "train": "train an experiment, or go on with one",
    "list": "every experiment: parameters, published number, cost",
    "show": "the resolved config, parameters, batch and FLOPs of an experiment",
    "evaluate": "evaluate a run on its data",
    "sample": "generate from a run",
    "predict": "apply a run to files",
    "explain": "what a classifier of texts makes of each token",
    "ask": "answer questions from a folder of documents",
    "export": "a run as one portable file, or as a folder for transformers",
    "import": "a folder of Hugging Face weights as a run",
    "replay": "run one step of a run again, with checks on",
    "report": "one page for one run or several",
    "reproduce": "train every seed of a published number",
    "crossvalidate": "train an experiment once a fold",
    "verify": "recompute every table from its logs",
    "checkpoint": "list, show, diff, verify, copy or average checkpoints",
    "doctor": "what this machine has, and what is wrong with it",
    "benchmark": "speed against plain PyTorch",
    "stress": "kills, injuries, other devices, long runs: counted",
    "test": "the test suite",
    "lint": "ruff and the type checker",
}
DEV = ("benchmark", "stress", "test", "lint")  # what works on Almanac itself
EXIT = "exit status: 0 done, 1 a check failed, 2 a mistake to mend, 75 preempted, or a host lost (start again to go on)"


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print("usage: almanac VERB ...   (almanac VERB --help tells more)\n")
        print("\n".join(f"  {verb:<13} {what}" for verb, what in VERBS.items()))
        print(f"\n{EXIT}")
        return 0
    verb, *rest = argv
    if verb not in VERBS:
        print(visible(f"almanac: there is no verb {verb!r}{nearest(verb, VERBS)}"), file=sys.stderr)
        return 2
    cpu.tune()
    return guarded(lambda: importlib.import_module(module(verb)).main(rest) or 0)


def module(verb: str) -> str:
    """The name of the module whose `main` is a verb's."""
    return f"tools.{'dev' if verb in DEV else 'verbs'}.{verb}{'_' * keyword.iskeyword(verb)}"


if __name__ == "__main__":
    sys.exit(main())
