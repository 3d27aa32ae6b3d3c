"""How a parallel corpus writes its lines, and the way between its form and plain text."""

import dataclasses
import functools
from typing import Protocol

from research.data import codecs
from research.data.tokenizers import moses, subwords
from research.util.errors import UserError


class Form(Protocol):
    """Of a corpus' lines."""

    @property
    def ways(self) -> tuple["Form", ...]:
        """The form of each way of translation, in the order of the tags that sources begin with."""
        return (self,)

    def prepare(self, line: str) -> str:
        """A raw line -> a line in the form of the sources."""
        return line

    def words(self, line: str) -> str:
        """A line in the form of the targets -> words, the form of the references of tokenised BLEU."""
        return line

    def restore(self, words: str) -> str:
        """Words -> plain text."""
        return words


@codecs.register("plain_lines")
@dataclasses.dataclass(frozen=True)
class Plain(Form):
    """Text as it is."""


@codecs.register("byte_pair_lines")
@dataclasses.dataclass(frozen=True)
class BytePairs(Form):
    """Moses' tokens, lower-cased, in byte pairs: `merges` are those of `subwords.Merges`, `source` and `target` languages."""

    merges: str
    source: str
    target: str

    @functools.cached_property
    def _merges(self) -> subwords.Merges:
        return subwords.Merges(self.merges)

    def prepare(self, line: str) -> str:
        return self._merges.split(moses.tokenize(line.lower(), self.source))

    def words(self, line: str) -> str:
        return subwords.join(line)

    def restore(self, words: str) -> str:
        return moses.detokenize(words, self.target)


@codecs.register("tagged_lines")
@dataclasses.dataclass(frozen=True)
class BothWays(Form):
    """Sources begin with a tag, `<2de>` for `tags` "2de", that names the way: `forward` or `backward`."""

    tags: tuple[str, str]
    forward: Form
    backward: Form

    @property
    def ways(self) -> tuple[Form, Form]:
        return self.forward, self.backward

    def prepare(self, line: str) -> str:
        if not line.strip():
            return line
        ways = {f"<{tag}>": way for tag, way in zip(self.tags, self.ways, strict=True)}
        tag, _, rest = line.strip().partition(" ")
        if tag not in ways:
            raise UserError(f"the line {line[:40]!r} begins with no language: put {' or '.join(ways)} before it")
        return f"{tag} {ways[tag].prepare(rest)}" if rest.strip() else ""

    def words(self, line: str) -> str:
        return self.forward.words(line)
