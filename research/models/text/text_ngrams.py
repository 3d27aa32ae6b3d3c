"""A bag of n-grams, fastText's classifier (Joulin et al. 2016, 1607.01759): the mean of embeddings, a linear layer.

Words have an embedding each; longer n-grams share `buckets` of them by a hash. Initial values are those of the authors' code.

    tokens/embedding [V + buckets, D]    head/kernel [D, N]
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Bool, Float32, Int

from research.core.arrays import Array
from research.nn.initializers import uniform
from research.util.errors import UserError

SHARDING = {"fsdp": ((r"(kernel|embedding)$", "fsdp"),)}
_FACTOR = 116_049_371  # fastText's


class TextNGrams(nn.Module):
    """Texts and their lengths -> logits. Raises UserError for invalid attributes."""

    vocab_size: int
    num_classes: int
    width: int = 10  # D
    order: int = 2  # the longest n-gram; 1: words alone
    buckets: int = 1_048_576  # for n-grams of two words or more

    def __post_init__(self):
        if min(self.width, self.order, self.buckets) < 1:
            raise UserError(
                f"model.width = {self.width}, model.order = {self.order}, model.buckets = {self.buckets}: all at least 1"
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B T"], length: Int[Array, " B"], *, train: bool = False
    ) -> Float32[Array, "B N"]:
        """Tokens beyond a row's length are ignored. There is no dropout: `train` has no effect."""
        del train
        rows = self.vocab_size + (self.buckets if self.order > 1 else 0)
        embed = nn.Embed(rows, self.width, embedding_init=uniform(1 / self.width), name="tokens")
        numbers, exists = ngrams(tokens, length, self.order, self.vocab_size, self.buckets)
        x = jnp.where(exists[..., None], embed(numbers), 0)  # [B, T, order, D]
        count = exists.sum((1, 2))[:, None].astype(x.dtype)
        head = nn.Dense(self.num_classes, use_bias=False, kernel_init=nn.initializers.zeros, name="head")
        return head(x.sum((1, 2)) / count).astype(jnp.float32)


def ngrams(
    tokens: Int[Array, "B T"], length: Int[Array, " B"], order: int, vocab_size: int, buckets: int
) -> tuple[Int[Array, "B T {order}"], Bool[Array, "B T {order}"]]:
    """The n-grams that end at each token: rows of the table, and whether they exist.

    The first is the word; that of n words is vocab_size + h mod buckets, h the polynomial in 116,049,371 of their ids,
    modulo 2^32, where fastText hashes their letters: the collisions differ, their number does not.

    >>> ngrams(jnp.array([[3, 1, 2]]), jnp.array([2]), order=2, vocab_size=4, buckets=8)[1].tolist()  # of a row of 2 words
    [[[True, False], [True, True], [False, False]]]
    """
    T = tokens.shape[1]
    inside = jnp.arange(T) < length[:, None]
    numbers, exists, h = [tokens], [inside], tokens.astype(jnp.uint32)
    for n in range(1, order):
        # h of the n words that end one token earlier, then this token.
        h = jnp.pad(h[:, :-1], ((0, 0), (1, 0))) * jnp.uint32(_FACTOR) + tokens.astype(jnp.uint32)
        numbers.append(vocab_size + (h % jnp.uint32(buckets)).astype(jnp.int32))
        exists.append(inside & (jnp.arange(T) >= n))
    return jnp.stack(numbers, -1), jnp.stack(exists, -1)
