"""Both directions of a pair of languages in one corpus: each source begins with a tag, the language wanted, as `<2de>`.

Source: Johnson et al. 2017 (1611.04558), section 3.
"""

from collections import ChainMap
from collections.abc import Mapping
from typing import Any

from research.data.text import parallel_corpora
from research.data.text.line_forms import BothWays
from research.data.text.parallel_corpora import Corpus, Lines
from research.util.errors import UserError


def both(cfg: Mapping[str, Any], forward: Corpus) -> Corpus:
    """The corpus of `cfg` and its reverse: `directions` are {"en_de": forward, "de_en": backward}.

    train and valid have the lines of one direction, then of the other; of valid and test there is also a part for each,
    `valid_en_de`. A line to translate begins with a tag. Raises UserError if the source has no reversed pairs.
    """
    first, second = parallel_corpora.languages(cfg)
    backward = _reversed(cfg, forward, f"{second}-{first}")
    directions = {f"{first}_{second}": forward, f"{second}_{first}": backward}
    tags = tags_of(cfg)
    tagged = {
        name: {part: _tagged(f"<{tag}>", lines) for part, lines in corpus.parts.items()}
        for (name, corpus), tag in zip(directions.items(), tags, strict=True)
    }
    parts = {part: _joined([lines[part] for lines in tagged.values()]) for part in ("train", "valid")}
    parts |= {f"{part}_{name}": tagged[name][part] for part in forward.parts if part != "train" for name in tagged}
    report = [
        *forward.report,
        f"ways     both: {cfg['pair']} and back; a source begins with <{tags[0]}> or <{tags[1]}>",
    ]
    return Corpus(parts, report, BothWays(tags, forward.form, backward.form), directions)


def tags_of(cfg: Mapping[str, Any]) -> tuple[str, str]:
    """The tags of forward and backward, the language of the target: "en-de" -> ("2de", "2en")."""
    first, second = parallel_corpora.languages(cfg)
    return f"2{second}", f"2{first}"


def _reversed(cfg: Mapping[str, Any], forward: Corpus, pair: str) -> Corpus:
    if cfg["source"] == "files":  # the user's lines as they are, whichever way a .tsv has its columns
        parts = {name: Lines(lines.target, lines.source) for name, lines in forward.parts.items()}
        return Corpus(parts, [])
    try:
        return parallel_corpora.load(ChainMap({"pair": pair}, cfg))  # type: ignore[arg-type]
    except UserError as cause:
        raise UserError(
            f"data.both_ways = True: {cfg['source']} has no pairs {pair} ({cause}); leave data.both_ways None"
        ) from None


def _tagged(tag: str, lines: Lines) -> Lines:
    return Lines([f"{tag} {line}" if line else line for line in lines.source], lines.target, lines.raw)


def _joined(lines: list[Lines]) -> Lines:
    return Lines(*([line for part in lines for line in getattr(part, side)] for side in ("source", "target")))
