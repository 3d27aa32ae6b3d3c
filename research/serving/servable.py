"""What the server serves: one model's prediction, and if it generates text its decoder. Made of a run directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from research.core.experiment import Experiment, Predictor
from research.data import user_files
from research.data.text.dialogues import Dialogues
from research.models.text.gpt import GPT
from research.models.text.recurrent_lm import RecurrentLM
from research.run.open_run import open_run
from research.serving.decoder import Decoder, from_model


class Language(NamedTuple):
    """What generates text: the model's programs, its tokenizer, and the chat template if it has conversations."""

    decoder: Decoder
    tokenizer: Any
    template: str | None = None


class Servable(NamedTuple):
    """A model to serve.

    name        in requests: letters, digits, ".", "_" and "-"
    version     what it was made of, for people: the experiment and the step
    predictor   inference, and the way to it from raw values; `fn` is called with `variables`
    language    None: it does not generate text
    """

    name: str
    version: str
    predictor: Predictor
    variables: Mapping
    language: Language | None = None


def from_run(
    folder: str | Path, name: str | None = None, checkpoint: str = "best", template: Path | None = None
) -> Servable:
    """A run directory, one at s3:// or gs:// too. `name` is None for the folder's own.

    `template` is a file with a chat template, in place of the one that the run has, if any. Raises UserError if there is no such
    run, checkpoint or file.
    """
    run = open_run(folder, checkpoint)
    text = None if template is None else user_files.read(template)
    return from_experiment(
        run.experiment,
        run.variables,
        name=run.folder.resolve().name if name is None else name,
        version=f"{run.cfg.name}@{run.step}",
        template=text,
    )


def from_experiment(
    e: Experiment, variables: Mapping, name: str, version: str, template: str | None = None
) -> Servable:
    """An experiment with these variables; `template` as `from_run` has it, as a text."""
    return Servable(name, version, e.predictor, variables, _language(e, variables, template))


def _language(e: Experiment, variables: Mapping, template: str | None) -> Language | None:
    generates = isinstance(e.model, RecurrentLM) or (isinstance(e.model, GPT) and e.model.head)
    if not generates or e.tokenizer is None:
        return None
    if template is None and isinstance(e.data, Dialogues):
        template = e.data.template
    return Language(from_model(e.model, dict(variables)), e.tokenizer, template)
