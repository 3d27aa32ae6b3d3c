"""`almanac VERB ...` calls `tools.verbs.VERB.main(argv)` (or `tools.dev`, `import_`), which returns the exit status.

JAX, the models and Orbax take most of a second to import. A verb that computes nothing does not import them, and the others
import them after they have parsed the command line, so that `--help` and usage errors are immediate.
"""

import importlib
import keyword
import sys

from research.cluster import cpu
from research.cluster.exits import guarded
from research.util.errors import nearest
from research.util.escape import visible

VERBS = {
    "train": "train an experiment, or resume it",
    "list": "every experiment: parameters, published number, cost",
    "show": "the resolved config, parameters, batch and FLOPs of an experiment",
    "evaluate": "evaluate a run on its data",
    "sample": "generate from a run",
    "predict": "apply a run to files",
    "pipe": "runs one after another, each on what the last one gives",
    "paraphrase": "training texts, translated there and back",
    "explain": "what a classifier chose a class for, by token or pixel",
    "chat": "a conversation with a language model",
    "serve": "runs over HTTP: predictions, and text with OpenAI's API",
    "ask": "answer questions from a folder of documents",
    "helpdesk": "a conversation of a shop's customer service",
    "monitor": "what requests to a server left: latency, errors, drift, accuracy",
    "feedback": "what came back of answers: as a data set to train on; forget a request",
    "seal": "encrypt bundles and what servers captured, or do so with a new key",
    "export": "a run as a bundle to predict with anywhere, or as a folder for transformers",
    "promote": "compare a run with the one it is to replace, and serve it if it passes",
    "import": "a folder of Hugging Face weights as a run",
    "replay": "repeat one step of a run, with checks on",
    "report": "one page for one run or several",
    "reproduce": "train every seed of a published number",
    "crossvalidate": "train an experiment once for each fold",
    "verify": "recompute every table from its logs",
    "checkpoint": "list, show, diff, verify, copy or average checkpoints; take adapters out",
    "doctor": "what this machine has, and what is wrong with it",
    "benchmark": "speed against plain PyTorch",
    "stress": "count what kills, corrupted files, other devices and long runs do",
    "test": "the test suite",
    "lint": "ruff and the type checker",
}
DEV = ("benchmark", "stress", "test", "lint")  # verbs for work on Almanac itself
EXIT = "exit status: 0 done, 1 a check failed, 2 a user error, 75 preempted or lost a host (the same command resumes)"


def main(argv: list[str] | None = None) -> int:
    """Runs a command line (None: the process's own) and returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print("usage: almanac VERB ...   (options: almanac VERB --help)\n")
        print("\n".join(f"  {verb:<13} {summary}" for verb, summary in VERBS.items()))
        print(f"\n{EXIT}")
        return 0
    verb, *verb_argv = argv
    if verb not in VERBS:
        print(visible(f"almanac: there is no verb {verb!r}{nearest(verb, VERBS)}"), file=sys.stderr)
        return 2
    cpu.tune()
    return guarded(lambda: importlib.import_module(module(verb)).main(verb_argv) or 0)


def module(verb: str) -> str:
    """The name of the module that implements a verb.

    >>> module("train"), module("import"), module("lint")
    ('tools.verbs.train', 'tools.verbs.import_', 'tools.dev.lint')
    """
    return f"tools.{'dev' if verb in DEV else 'verbs'}.{verb}{'_' * keyword.iskeyword(verb)}"


if __name__ == "__main__":
    sys.exit(main())
