"""SAEs with known answers, and a text encoder whose directions are planted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from saetools.errors import HookNotFoundError
from saetools.models.base import Edit, TextEncoder, TokenBatch
from saetools.sae import SAE, build_sae

HOOK = "blocks.0.hook_resid_post"


def make_identity(d_in: int, *, k: int | None = None, hook_name: str = HOOK) -> SAE:
    """Rows ±e_i: latent i is the positive part of coordinate i, d_in + i the negative one."""
    sae = build_sae(
        "topk", d_in=d_in, n_latents=2 * d_in, k=k or d_in, meta={"hook_name": hook_name}
    )
    both_ways = torch.cat([torch.eye(d_in), -torch.eye(d_in)])
    with torch.no_grad():
        sae.W_dec.copy_(both_ways)
        sae.W_enc_rows.copy_(both_ways)
    return sae


def make_constant(vector: Tensor, *, hook_name: str = HOOK) -> SAE:
    """An SAE that predicts `vector` for every token: no latent ever fires."""
    sae = build_sae("topk", d_in=len(vector), n_latents=8, k=1, meta={"hook_name": hook_name})
    with torch.no_grad():
        sae.W_enc_rows.zero_()
        sae.b_enc.fill_(-1.0)
        sae.b_dec.copy_(vector)
    return sae


class PlantedEncoder(TextEncoder):
    """One hook, which is a table of vectors by word; the embedding is their normalised mean.

    Args:
        vectors: activation of each word, (n_words, d_model); text is words' numbers and spaces.
    """

    name = "planted"
    pooling = "mean"
    n_layers = 1
    ctx_len = 32
    # Words are their own ids, and none of them is special.
    tokenizer = SimpleNamespace(pad_token_id=None, eos_token_id=None, all_special_ids=())

    def __init__(self, vectors: Tensor) -> None:
        self.hf = torch.nn.Identity()
        self.vectors = vectors
        self.d_model = vectors.shape[1]
        self._edits: list[Edit] = []

    @property
    def device(self) -> torch.device:
        return self.vectors.device

    @property
    def fingerprint(self) -> str:
        return "planted-planted-"

    @property
    def tokenizer_fingerprint(self) -> str:
        return "planted-planted-"

    def hook_names(self) -> tuple[str, ...]:
        return (HOOK,)

    def resolve(self, hook_name: str) -> str:
        if hook_name != HOOK:
            raise HookNotFoundError(f"no hook {hook_name}; there is {HOOK}")
        return HOOK

    def width(self, hook_name: str) -> int:
        return self.d_model

    def tokenize(self, texts: Sequence[str], *, ctx_len: int | None = None) -> TokenBatch:
        rows = [[int(word) for word in text.split()][: ctx_len or self.ctx_len] for text in texts]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = True
        return TokenBatch(ids, mask, ~mask)

    def activations(self, tokens: TokenBatch, hook_names: Sequence[str]) -> dict[str, Tensor]:
        return {name: self._run(tokens) for name in hook_names}

    def editing(self, edits: Mapping[str, Edit]) -> AbstractContextManager[None]:
        @contextmanager
        def block() -> Iterator[None]:
            self._edits += edits.values()
            try:
                yield
            finally:
                del self._edits[-len(edits) :]

        return block()

    def embed(self, texts: Sequence[str] | TokenBatch, *, batch_size: int = 32) -> Tensor:
        tokens = texts if isinstance(texts, TokenBatch) else self.tokenize(texts)
        x = self._run(tokens) * tokens.mask.unsqueeze(-1)
        return torch.nn.functional.normalize(x.sum(1) / tokens.mask.sum(1, keepdim=True), dim=-1)

    def _run(self, tokens: TokenBatch) -> Tensor:
        x = self.vectors[tokens.ids]
        for edit in self._edits:
            x = edit(x, tokens.content)
        return x


@pytest.fixture(scope="session")
def identity_sae() -> Callable[..., SAE]:
    """Factory of SAEs that reconstruct exactly (with k below d_in: the k largest coordinates)."""
    return make_identity


@pytest.fixture(scope="session")
def constant_sae() -> Callable[..., SAE]:
    """Factory of SAEs that predict one vector."""
    return make_constant


@pytest.fixture(scope="session")
def planted_encoder() -> Callable[[Tensor], TextEncoder]:
    """Factory of text encoders with the given activation for each word."""
    return PlantedEncoder
