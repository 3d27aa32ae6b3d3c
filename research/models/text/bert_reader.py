"""BERT with a span head (Devlin et al. 2019, 1810.04805, section 4.2): encoder/..., span/{kernel [D, 2], bias [2]}."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float, Float32, Int

from research.core.arrays import Array
from research.models.text.bert import INIT, Encoder
from research.models.text.bidaf import OUT
from research.nn.linear import flat_dot


class BertReader(nn.Module):
    """-> logits of an answer's first and last position; position 0, [CLS], is no answer (section 4.3)."""

    encoder: Encoder

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        token_type_ids: Int[Array, "B T"],
        token_mask: Float[Array, "B T"],
        *,
        train: bool = False,
    ) -> tuple[Float32[Array, "B T"], Float32[Array, "B T"]]:
        """[CLS] question [SEP] passage [SEP] as laid out by `research.data.text.spans.Joined`."""
        x = self.encoder(tokens, token_mask, token_type_ids=token_type_ids, train=train)
        logits = nn.Dense(2, kernel_init=INIT, dot_general=flat_dot, name="span")(x).astype(jnp.float32)
        before_last = jnp.pad(token_mask[:, 1:], ((0, 0), (0, 1))) > 0  # without the second [SEP], which ends the row
        answer = ((token_type_ids == 1) & before_last).at[:, 0].set(True)
        logits = jnp.where(answer[..., None], logits, OUT)
        return logits[..., 0], logits[..., 1]
