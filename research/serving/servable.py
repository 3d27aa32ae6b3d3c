"""What the server serves: one model's prediction, and if it generates text its decoder. Made of a run directory or a bundle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from research.core.experiment import Experiment, Predictor
from research.data import user_files
from research.data.text.dialogues import Dialogues
from research.run.open_run import open_run
from research.serving.bundle import Bundle, is_bundle, open_bundle
from research.serving.decoder import Decoder, from_model, generates
from research.serving.monitor.reference import Reference


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
    reference   what the monitor compares service with; None: it has none
    """

    name: str
    version: str
    predictor: Predictor
    variables: Mapping
    language: Language | None = None
    reference: Reference | None = None


def from_folder(
    folder: str | Path, name: str | None = None, checkpoint: str = "best", template: Path | None = None
) -> Servable:
    """A bundle, or a run directory, one at s3:// or gs:// too. `name` is None for the folder's own.

    `template` is a file with a chat template, in place of the one that the model has, if any. Raises UserError if there is no
    such run, bundle, checkpoint or file.
    """
    text = None if template is None else user_files.read(template)
    if is_bundle(folder):
        return from_bundle(open_bundle(folder, checkpoint), name, text)
    run = open_run(folder, checkpoint)
    return from_experiment(
        run.experiment,
        run.variables,
        name=run.folder.resolve().name if name is None else name,
        version=f"{run.cfg.name}@{run.step}",
        template=text,
    )


def from_bundle(bundle: Bundle, name: str | None = None, template: str | None = None) -> Servable:
    """An opened bundle; `name` and `template` as `from_folder` has them."""
    about, language = bundle.manifest, None
    tokenizer = getattr(bundle.codec, "tokenizer", None)
    if bundle.decoder is not None and tokenizer is not None:
        language = Language(bundle.decoder, tokenizer, template or about.get("template"))
    version = f"{about['name']}@{about.get('step')}"
    own = bundle.folder.resolve().name
    return Servable(
        own if name is None else name, version, bundle.predictor, bundle.parameters, language, bundle.reference
    )


def from_experiment(
    e: Experiment, variables: Mapping, name: str, version: str, template: str | None = None
) -> Servable:
    """An experiment with these variables; `template` as `from_folder` has it, as a text."""
    return Servable(name, version, e.predictor, variables, _language(e, variables, template))


def _language(e: Experiment, variables: Mapping, template: str | None) -> Language | None:
    if not generates(e.model) or e.tokenizer is None:
        return None
    return Language(from_model(e.model, dict(variables)), e.tokenizer, template or chat_template(e))


def chat_template(e: Experiment) -> str | None:
    """That of a model that learnt from conversations."""
    return e.data.template if isinstance(e.data, Dialogues) else None
