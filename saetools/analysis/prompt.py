"""Which latents fire on a text that is in no store."""

from dataclasses import dataclass

import torch

from saetools.analysis.show import reading_html
from saetools.analysis.token_text import readable, style_of
from saetools.errors import ShapeError
from saetools.models.base import SubjectModel
from saetools.sae import SAE

__all__ = ["PromptReading", "read_prompt"]


@dataclass(frozen=True)
class PromptReading:
    """The latents of each token of a text.

    Args:
        tokens: readable tokens, without the special ones, which the SAE was not trained on.
        latents: for each token its active latents and their activations, strongest first.
    """

    tokens: list[str]
    latents: list[list[tuple[int, float]]]

    def strongest(self, *, top: int = 10) -> list[tuple[int, float, int]]:
        """Latents by their largest activation in the text: latent, activation, place of it."""
        best: dict[int, tuple[float, int]] = {}
        for place, found in enumerate(self.latents):
            for latent, act in found:
                if latent not in best or act > best[latent][0]:
                    best[latent] = (act, place)
        order = sorted(best, key=lambda latent: (-best[latent][0], latent))[:top]
        return [(latent, *best[latent]) for latent in order]

    def _repr_html_(self) -> str:
        return reading_html(self.tokens, self.latents)


def read_prompt(model: SubjectModel, sae: SAE, text: str, *, hook_name: str) -> PromptReading:
    """Run a text through the model and the SAE.

    Args:
        model: the subject model.
        sae: reads the hook in it.
        text: truncated to what the model takes.
        hook_name: where the SAE reads.

    Raises:
        ShapeError: the hook has another width in this model than the SAE reads.
    """
    if model.width(hook_name) != sae.config.d_in:
        raise ShapeError(
            f"the SAE reads width {sae.config.d_in}; {model.name} has width "
            f"{model.width(hook_name)} at {hook_name}; read with the model that was harvested"
        )
    tokens = model.tokenize([text])
    content = (tokens.mask & ~tokens.special)[0]
    ids = tokens.ids[0][content].tolist()
    pieces = [str(piece) for piece in model.tokenizer.convert_ids_to_tokens(ids)]
    texts = readable(pieces, style_of(model.tokenizer.get_vocab()))
    if not ids:
        return PromptReading([], [])
    x = model.activations(tokens, [hook_name])[hook_name][0][content]
    with torch.no_grad():
        latents = sae.encode(x.to(sae.device, torch.float32))
    rows = zip(latents.indices.tolist(), latents.values.tolist(), strict=True)
    return PromptReading(
        texts,
        [
            sorted(((i, v) for i, v in zip(*row, strict=True) if v > 0), key=lambda hit: -hit[1])
            for row in rows
        ],
    )
