"""BiDAF: a reader in which question and passage attend to each other (Seo et al. 2017, 1611.01603).

Words are embedded by a convolution over their characters and its maximum, and by a table if `words`; then two highway
layers, a bidirectional LSTM over each text, attention in both directions (eqs. 1 to 4), two more LSTMs, and distributions
over the answer's first and last token. H is `width`, D the sum of
`filters`, `words` and 1 if `match`.

    words/embedding [V, words]     if words     chars/embedding [C, char_width]
    char_cnn/kernel [5 char_width, filters]     char_cnn/bias [filters]
    highway_{0,1}/{transform,gate}/{kernel [D, D], bias [D]}
    context/{forward,backward}/...              LSTMs, D -> 2 H
    similarity/{passage,question,both} [2 H]    w of eq. 1, by thirds
    modelling_{0,1}/{forward,backward}/...      8 H -> 2 H, 2 H -> 2 H
    end/{forward,backward}/...                  2 H -> 2 H, or with end_sees_all 14 H + ... -> 2 H
    {start_head,end_head}/{kernel [10 H, 1], bias [1]}              none []  if null
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32, Int

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.nn.linear import flat_dot
from research.nn.recurrent import LSTM, Bidirectional
from research.util.errors import UserError

OUT = -1e30  # the logit of a position that cannot be in an answer
WINDOW = 5  # characters of a filter
SHARDING = {"fsdp": ((r"(kernel|embedding)$", "fsdp"),)}


def attention_flow(
    passage: Float[Array, "B T C"],
    question: Float[Array, "B J C"],
    similarity: Float32[Array, "B T J"],
    inside: Bool[Array, "B T J"],
) -> Float[Array, "B T 4*C"]:
    """Eqs. 2 to 4; `similarity` is that of eq. 1.

    Each token gets [h; u; h u; h v]: its own vector h, the question u as it attends to it, and v, the passage as the question
    attends to it, the same for all. `inside` is true where both are tokens; a row without any has equal weights.
    """
    scores = jnp.where(inside, similarity, jnp.finfo(similarity.dtype).min)
    to_question = jax.nn.softmax(scores, axis=2).astype(question.dtype)
    to_passage = jax.nn.softmax(scores.max(axis=2), axis=1).astype(passage.dtype)
    u = jnp.einsum("btj,bjc->btc", to_question, question)
    v = jnp.einsum("bt,btc->bc", to_passage, passage)[:, None]
    return jnp.concatenate([passage, u, passage * u, passage * v], axis=-1)


class Similarity(nn.Module):
    """w [h; u; h u] of every pair (eq. 1)."""

    @nn.compact
    def __call__(self, passage: Float[Array, "B T C"], question: Float[Array, "B J C"]) -> Float32[Array, "B T J"]:
        C = passage.shape[-1]
        init = nn.initializers.normal(C**-0.5)
        of_passage, of_question, of_both = (self.param(name, init, (C,)) for name in ("passage", "question", "both"))
        product = partial(jnp.einsum, preferred_element_type=jnp.float32)
        both = product("btc,bjc->btj", passage * of_both, question)
        return (
            both
            + product("btc,c->bt", passage, of_passage)[:, :, None]
            + product("bjc,c->bj", question, of_question)[:, None]
        )


class CharCNN(nn.Module):
    """Filters over `WINDOW` characters, ReLU, the maximum over the word."""

    filters: int

    @nn.compact
    def __call__(self, x: Float[Array, "*words W E"]) -> Float[Array, "*words {self.filters}"]:
        windows = x.shape[-2] - WINDOW + 1
        # As one product: XLA's convolutions are slow on a CPU, and here the window is short.
        x = jnp.concatenate([x[..., i : i + windows, :] for i in range(WINDOW)], axis=-1)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.filters))
        bias = self.param("bias", nn.initializers.zeros, (self.filters,))
        x = flat_dot(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))
        return nn.relu(x + bias).max(axis=-2)


class Highway(nn.Module):
    """g relu(W x) + (1 - g) x, with g = sigmoid(V x) (Srivastava et al. 2015, 1505.00387)."""

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        dense = partial(nn.Dense, x.shape[-1], dot_general=flat_dot)
        gate = nn.sigmoid(dense(name="gate")(x))
        return gate * nn.relu(dense(name="transform")(x)) + (1 - gate) * x


class BiDAF(nn.Module):
    """-> logits of an answer's first and last position: position 0 is no answer, i + 1 is token i."""

    vocab_size: int  # V
    num_chars: int  # C
    words: int = 100  # width of the table of words; 0: characters alone
    char_width: int = 8
    filters: int = 100
    width: int = 100  # H
    dropout: float = 0.2
    null: bool = False  # there may be no answer: its logit is a parameter (Levy et al. 2017, 1706.04115)
    match: bool = False  # whether a word occurs in the other text (Chen et al. 2017, 1704.00051, section 3.2)
    end_sees_all: bool = False  # the last LSTM has the inputs of the authors' code, more than the paper's

    def __post_init__(self):
        for name in ("vocab_size", "num_chars", "char_width", "filters", "width"):
            if (value := getattr(self, name)) < 1:
                raise UserError(f"model.{name} = {value}: at least 1")
        if self.words < 0:
            raise UserError(f"model.words = {self.words}: at least 0")
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout = {self.dropout} is not in [0, 1)")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        question: Int[Array, "B Q"],
        question_chars: Int[Array, "B Q W"],
        passage: Int[Array, "B T"],
        passage_chars: Int[Array, "B T W"],
        *,
        train: bool = False,
    ) -> tuple[Float32[Array, "B 1+T"], Float32[Array, "B 1+T"]]:
        """Words, 0 after the last, and their characters."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        lstm = partial(Bidirectional, partial(LSTM, self.width, forget_bias=1.0))
        embed, context = self._embedding(drop), lstm(name="context")
        q_length, p_length = ((x != 0).sum(-1) for x in (question, passage))
        inside = (passage != 0)[:, :, None] & (question != 0)[:, None, :]
        in_question = in_passage = None
        if self.match:
            same = (passage_chars[:, :, None] == question_chars[:, None]).all(-1) & inside
            in_question, in_passage = same.any(2), same.any(1)
        u, _ = context(drop(embed(question, question_chars, in_passage)), lengths=q_length)
        h, _ = context(drop(embed(passage, passage_chars, in_question)), lengths=p_length)
        g = shard_activations(attention_flow(h, u, Similarity(name="similarity")(h, u), inside))
        m, _ = lstm(name="modelling_0")(drop(g), lengths=p_length)
        m, _ = lstm(name="modelling_1")(drop(m), lengths=p_length)
        start = self._head("start_head", drop(jnp.concatenate([g, m], -1)), passage)
        end_inputs = (
            jnp.concatenate([g, m, self._chosen(start, m), m * self._chosen(start, m)], -1) if self.end_sees_all else m
        )
        n, _ = lstm(name="end")(drop(end_inputs), lengths=p_length)
        end = self._head("end_head", drop(jnp.concatenate([g, n], -1)), passage)
        none = self.param("none", nn.initializers.zeros, ()) if self.null else OUT
        none = jnp.full((start.shape[0], 1), none, jnp.float32)  # not len: symbolic in an export
        return jnp.concatenate([none, start], -1), jnp.concatenate([none, end], -1)

    def _embedding(self, drop):
        """Words and characters -> f[B, T, D], by the same parameters for both texts."""
        table = nn.Embed(self.vocab_size, self.words, name="words") if self.words else None
        chars = nn.Embed(self.num_chars, self.char_width, name="chars")
        cnn, highway = CharCNN(self.filters, name="char_cnn"), [Highway(name=f"highway_{i}") for i in range(2)]

        def embed(words, letters, match):
            x = cnn(drop(chars(letters)))
            x = jnp.concatenate([x, table(words)], -1) if table else x
            x = x if match is None else jnp.concatenate([x, match[..., None].astype(x.dtype)], -1)
            for layer in highway:
                x = layer(x)
            return x

        return embed

    def _head(self, name: str, x: Float[Array, "B T _"], passage: Int[Array, "B T"]) -> Float32[Array, "B T"]:
        logits = nn.Dense(1, dot_general=flat_dot, name=name)(x)[..., 0].astype(jnp.float32)
        return jnp.where(passage != 0, logits, OUT)

    def _chosen(self, start: Float32[Array, "B T"], m: Float[Array, "B T C"]) -> Float[Array, "B T C"]:
        """The modelling layer averaged over the start distribution, repeated for every token."""
        weights = jax.nn.softmax(start).astype(m.dtype)
        return jnp.broadcast_to(jnp.einsum("bt,btc->bc", weights, m)[:, None], m.shape)
