"""What a sparse autoencoder is: weights, a selection rule, and pure functions over both.

An SAE holds weights only. `encode`, `decode`, `forward` and `loss` read and never write; what
changes during training lives in `saetools.train`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saetools.config import validate
from saetools.errors import FormatError, SaetoolsError, ShapeError
from saetools.registry import Registry
from saetools.sae import ops
from saetools.sae.config import SAEConfig
from saetools.sae.folder import read_folder, write_folder
from saetools.sae.selection import Selection
from saetools.types import SparseLatents

__all__ = ["ARCHS", "SAE", "Loss"]


class Loss(NamedTuple):
    """What one batch costs, and what the trainer needs to know about it.

    total is what is minimised; fvu the batch's squared error at full width over the variance, lower
    is better; aux the AuxK term before its coefficient; selection the active latents, detached.
    """

    total: Float[Tensor, ""]
    fvu: Float[Tensor, ""]
    aux: Float[Tensor, ""]
    selection: Selection


class SAE(nn.Module, ABC):
    """A sparse autoencoder over activations of width `d_in`.

    Both matrices are stored latent-major: row i of `W_enc_rows` and of `W_dec` belongs to latent i.
    `W_enc` is the (d_in, n_latents) view that the field expects. Rows of `W_dec` have unit norm.

    Args:
        config: the architecture's own frozen config.
        meta: where it comes from: hook_name, model, tokens trained on. Never used in arithmetic.
        seed: of the initial weights: random unit decoder rows, encoder tied to them, zero biases.
    """

    Config: ClassVar[type[SAEConfig]]

    def __init__(
        self, config: SAEConfig, *, meta: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        self.meta: dict[str, Any] = dict(meta or {})
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(config.n_latents, config.d_in, generator=generator)
        rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
        self.W_dec = nn.Parameter(rows)
        self.W_enc_rows = nn.Parameter(rows.clone())
        self.b_enc = nn.Parameter(torch.zeros(config.n_latents))
        self.b_dec = nn.Parameter(torch.zeros(config.d_in))

    @abstractmethod
    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseLatents:
        """The active latents of each token, as at inference: no token depends on another."""

    @abstractmethod
    def select(self, x: Float[Tensor, "n d_in"], *, hint: float | None = None) -> Selection:
        """The active latents of a training batch, without a gradient.

        `hint` is a guess of the selection's threshold that may save time and changes no result.
        """

    @property
    def W_enc(self) -> Float[Tensor, "d_in n_latents"]:
        """Encoder matrix in the field's orientation; a view, not a copy."""
        return self.W_enc_rows.T

    @property
    def widths(self) -> tuple[int, ...]:
        """Prefix sizes that reconstruct on their own; the last is n_latents."""
        return (self.config.n_latents,)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.W_dec.device

    def pre_acts(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n n_latents"]:
        """Encoder output before selection, whole: n · n_latents values."""
        self._check_width(x)
        return torch.addmm(self.b_enc, x - self.b_dec, self.W_enc)

    def decode(self, latents: SparseLatents) -> Float[Tensor, "n d_in"]:
        """Reconstruction from active latents: Σ value · W_dec[latent] + b_dec."""
        return ops.sparse_decode(latents.values, latents.indices, self.W_dec) + self.b_dec

    def forward(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """Reconstruction x_hat of x."""
        return self.decode(self.encode(x))

    def loss(
        self,
        x: Float[Tensor, "n d_in"],
        *,
        variance: float,
        dead: Bool[Tensor, " n_latents"] | None = None,
        k_aux: int | None = None,
        aux_coefficient: float = 1 / 32,
        hint: float | None = None,
    ) -> Loss:
        """Training loss of a batch (Gao et al. 2024, arXiv:2406.04093).

        total = reconstruction + aux_coefficient · AuxK, both as fractions of a variance: the
        reconstruction error of `variance`, the AuxK error of the batch variance of the residual.

        Args:
            x: batch, in the scale the SAE is trained in.
            variance: Σ over dimensions of the variance of the data, Σ‖x − x̄‖²/n.
            dead: latents that AuxK should revive; None or all False leaves AuxK out.
            k_aux: how many dead latents a token may use; half of d_in by default.
            hint: passed to `select`.
        """
        chosen = self.select(x, hint=hint)
        values = ops.pre_act_values(
            x, self.b_dec, self.W_enc_rows, self.b_enc,
            values=chosen.values, rows=chosen.rows, latents=chosen.latents,
        )  # fmt: skip
        total, residual = self._reconstruction(x, chosen._replace(values=values), variance)
        aux = x.new_zeros(())
        if dead is not None and bool(dead.any()):
            aux = self._aux_loss(x, residual, dead, k_aux or max(1, self.config.d_in // 2))
            total = total + aux_coefficient * aux
        fvu = residual.square().sum() / (variance * max(len(x), 1))
        return Loss(total, fvu, aux.detach(), chosen)

    def folded(self, scale: float) -> "SAE":
        """The SAE that does on x what this one does on scale · x; decoder rows keep unit norm.

        With x' = scale·x: x_hat = x_hat'/scale needs b_dec/scale, b_enc/scale and W unchanged.
        """
        twin = type(self)(self.config, meta=self.meta)
        state = {name: tensor.clone() for name, tensor in self.state_dict().items()}
        for name in self._scaled_names():
            state[name] = state[name] / scale
        twin.load_state_dict(state)
        return twin.to(self.device)

    def save(self, folder: str | Path) -> Path:
        """Write config.json, sae.safetensors and README.md; an SAE that is there is replaced."""
        tensors = self.state_dict()
        tensors["W_enc"] = tensors.pop("W_enc_rows").T
        return write_folder(
            folder, tensors=tensors, fields=self.config.model_dump(), meta=self.meta
        )

    @staticmethod
    def load(folder: str | Path, *, device: str | torch.device = "cpu") -> "SAE":
        """Read an SAE folder; its weights ask for no gradient.

        Raises:
            FormatError: not an SAE folder, of a newer format, or its tensors do not fit its config.
        """
        fields, meta, tensors = read_folder(folder)
        try:
            arch = ARCHS.get(str(fields.get("type")))
            sae = arch(validate(arch.Config, fields, what="config.json"), meta=meta)
        except SaetoolsError as error:
            raise FormatError(f"{folder} does not describe an SAE: {error}") from error
        if "W_enc" in tensors:
            tensors["W_enc_rows"] = tensors.pop("W_enc").T.contiguous()
        wanted = {name: tuple(tensor.shape) for name, tensor in sae.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        wrong = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
        if wrong:
            raise FormatError(
                f"{folder}: sae.safetensors does not fit config.json: "
                + "; ".join(f"{k} should be {wanted.get(k)}, is {found.get(k)}" for k in wrong)
            )
        sae.load_state_dict(tensors)
        return sae.to(device).requires_grad_(False)

    def _reconstruction(
        self, x: Tensor, chosen: Selection, variance: float
    ) -> tuple[Tensor, Tensor]:
        """Reconstruction loss as a fraction of `variance`, and the residual x − x_hat, detached."""
        x_hat = ops.bag_decode(chosen.values, chosen.latents, chosen.bounds, self.W_dec)
        residual = x - x_hat - self.b_dec
        loss = residual.square().sum() / (variance * max(len(x), 1))
        return loss, residual.detach()

    def _aux_loss(self, x: Tensor, residual: Tensor, dead: Tensor, k_aux: int) -> Tensor:
        """How well the dead latents alone reconstruct the residual; 0 when it has no variance."""
        which = dead.nonzero().squeeze(-1)
        pre_acts = torch.addmm(
            self.b_enc[which], x - self.b_dec, self.W_enc_rows[which].T
        )  # (n, n_dead)
        top = pre_acts.topk(min(k_aux, len(which)), dim=1, sorted=False)
        latents = torch.zeros_like(pre_acts).scatter(1, top.indices, top.values.relu())
        error = (residual - latents @ self.W_dec[which]).square().sum()
        spread = (residual - residual.mean(0)).square().sum()
        return torch.nan_to_num(error / spread, nan=0.0, posinf=0.0)

    def _scaled_names(self) -> tuple[str, ...]:
        """Tensors that are in the units of the activation."""
        return ("b_enc", "b_dec")

    def _check_width(self, x: Tensor) -> None:
        if x.ndim != 2 or x.shape[1] != self.config.d_in:
            raise ShapeError(
                f"this {self.config.type} SAE reads activations of shape (n, {self.config.d_in}); "
                f"got {tuple(x.shape)}; check the hook (the SAE was trained at "
                f"{self.meta.get('hook_name', 'an unknown hook')})"
            )

    def _repr_html_(self) -> str:
        rows = {**self.config.model_dump(), **self.meta}
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(str(key))}</th>"
            f"<td style='text-align:left'>{escape(str(value))}</td></tr>"
            for key, value in rows.items()
        )
        return f"<table><caption>SAE</caption>{cells}</table>"


ARCHS: Registry[type[SAE]] = Registry(
    "SAE architecture", package="saetools.sae.archs", group="saetools.architectures"
)
"""All architectures by name."""
