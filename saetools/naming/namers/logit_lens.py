"""Name a latent by the next tokens that it speaks for: what it does, not what it fires on.

From the index's logit lens: z of every token of the vocabulary, for the decoder row read through
the final norm's gain and the unembedding. A latent counts as one that writes tokens, and gets a
name, if

    z(1) > min_z   and   z(1) - z(n_tokens + 1) >= min_margin

z(i) being the i-th largest: its best token stands out of the vocabulary, and out of the list of the
runners-up that the name leaves out. Others get none. The lens passes over all later layers, so it
is to be trusted most near the last one. Language models only. Source: nostalgebraist 2020,
"interpreting GPT: the logit lens".
"""

from collections.abc import Sequence

from pydantic import Field

from saetools.analysis.logit_lens import LatentLogits
from saetools.errors import ConfigError
from saetools.naming.base import NAMERS, Name, NamerConfig, NamingContext

__all__ = ["LogitLens", "LogitLensConfig"]

_ME = "logit_lens"


class LogitLensConfig(NamerConfig):
    """When the promoted tokens stand out enough for a name."""

    min_z: float = Field(
        default=5.0,
        description="z that the strongest token must pass; of 50,000 tokens with normal scores "
        "the best has 4.3",
    )
    min_margin: float = Field(
        default=1.0, ge=0, description="z between it and the first token that the name leaves out"
    )
    n_tokens: int = Field(default=3, ge=1, le=9, description="tokens in a name, at most")


@NAMERS.register(_ME)
class LogitLens:
    """Names from promoted tokens."""

    Config = LogitLensConfig

    @staticmethod
    def name(context: NamingContext, latents: Sequence[int], config: LogitLensConfig) -> list[Name]:
        """Name latents that write tokens.

        Raises:
            ConfigError: the index has no logit lens.
        """
        table = context.index.logits
        if table is None:
            raise ConfigError(
                f"the namer '{_ME}' needs the index's logit lens, and it has none at "
                f"{context.index.hook_name}: only language models have one, at sites that add to "
                "the residual stream; use top_tokens or vocabulary"
            )
        found = (_name(latent, table.of(latent), config) for latent in latents)
        return [name for name in found if name is not None]


def _name(latent: int, lens: LatentLogits, config: LogitLensConfig) -> Name | None:
    promoted = lens.promoted
    if not promoted:
        return None
    strongest = promoted[0][1]
    # A vocabulary that ends before the name does leaves nothing out.
    left_out = promoted[config.n_tokens][1] if len(promoted) > config.n_tokens else 0.0
    if strongest <= config.min_z or strongest - left_out < config.min_margin:
        return None
    said = [(token, z) for token, z in promoted[: config.n_tokens] if z > config.min_z]
    against = ", ".join(f'"{token.strip()}" ({z:.1f})' for token, z in lens.suppressed[:2])
    return Name(
        latent,
        "promotes " + ", ".join(f'"{token.strip()}"' for token, _ in said),
        confidence=min(max(1 - left_out / strongest, 0.0), 1.0),
        rationale=(
            "z of the logit lens: "
            + ", ".join(f'"{token.strip()}" ({z:.1f})' for token, z in said)
            + f"; the first left out has {left_out:.1f}; most suppressed {against or 'nothing'}"
        ),
        namer=_ME,
        promotes=tuple(token for token, _ in said),
    )
