"""What a sparse autoencoder is: weights, a selection rule, and pure functions over both.

An SAE holds weights only. `encode`, `decode`, `forward` and `loss` read and never write; what
changes during training lives in `saetools.train`.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saetools.config import validate
from saetools.errors import ConfigError, FormatError, SaetoolsError, ShapeError
from saetools.registry import Registry
from saetools.sae import ops
from saetools.sae.affine import Affine
from saetools.sae.config import SAEConfig
from saetools.sae.folder import is_own, read_folder, write_folder
from saetools.sae.foreign import FOREIGN, OWN_NAME
from saetools.sae.init import unit_rows
from saetools.sae.objective import Loss, Objective
from saetools.sae.scratch import Scratch
from saetools.sae.sharing import ALONE
from saetools.types import SparseLatents

__all__ = ["ARCHS", "INPUT_NORMS", "SAE", "Gradients"]

Gradients = Mapping[str, ops.RowGradient]
"""The gradient of each parameter by name, in the form in which it arose."""


class SAE(nn.Module, ABC):
    """A sparse autoencoder over activations of width `d_in`.

    Both matrices are stored latent-major: row i of `W_enc_rows` and of `W_dec` belongs to latent i.
    `W_enc` is the (d_in, n_latents) view that the field expects. Training keeps the rows of `W_dec`
    at unit norm where `unit_norm_decoder` says so.

    Args:
        config: the architecture's own frozen config.
        meta: where it comes from: hook_name, model, tokens trained on. Never used in arithmetic.
        seed: of the initial weights: random unit decoder rows, encoder tied to them, zero biases.
            Where `tied_start` is False the encoder's rows are random unit rows of their own.
    """

    Config: ClassVar[type[SAEConfig]]
    unit_norm_decoder: ClassVar[bool] = True
    tied_start: ClassVar[bool] = True
    takes_compute_dtype: ClassVar[bool] = False

    def __init__(
        self, config: SAEConfig, *, meta: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        self.meta: dict[str, Any] = dict(meta or {})
        generator = torch.Generator().manual_seed(seed)
        rows = unit_rows(config.n_latents, self.d_out, generator)
        own = rows.clone()
        if not self.tied_start:
            own = unit_rows(config.n_latents, config.d_in, generator)
        self.W_dec = nn.Parameter(rows)
        self.W_enc_rows = nn.Parameter(own)
        self.b_enc = nn.Parameter(torch.zeros(len(rows)))
        self.b_dec = nn.Parameter(torch.zeros(self.d_out))

    @abstractmethod
    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseLatents:
        """The active latents of each token, as at inference: no token depends on another."""

    @abstractmethod
    def loss(
        self,
        x: Float[Tensor, "n d_in"],
        objective: Objective,
        *,
        target: Float[Tensor, "n d_out"] | None = None,
    ) -> Loss:
        """Training loss of a batch, differentiable in the weights.

        Args:
            x: batch, in the scale the SAE is trained in.
            objective: what else the loss depends on.
            target: what should be reconstructed; x itself by default.
        """

    def gradients(
        self,
        x: Float[Tensor, "n d_in"],
        objective: Objective,
        *,
        target: Float[Tensor, "n d_out"] | None = None,
        scratch: Scratch | None = None,  # noqa: ARG002 - for architectures that can use it
    ) -> tuple[Loss, Gradients]:
        """The loss of a batch and its gradient to every parameter.

        By default through autograd over `loss`, each gradient whole; architectures that know their
        gradients in a sparser form give that. Where processes share the rows of the batch
        (`objective.rows`), each takes the loss of its own; this needs a loss that is a mean over
        tokens.
        """
        rows, mine = objective.rows, objective.rows.span(len(x))
        share = (mine.stop - mine.start) / max(len(x), 1) if rows.size > 1 else 1.0
        part = None if target is None else target[mine]
        parameters = dict(self.named_parameters())
        with torch.enable_grad():
            loss = self.loss(x[mine], replace(objective, rows=ALONE), target=part)
            total = loss.total * share
            grads = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
        whole = {
            name: ops.RowGradient(
                whole=rows.sum(torch.zeros_like(parameter) if grad is None else grad)
            )
            for (name, parameter), grad in zip(parameters.items(), grads, strict=True)
        }
        return loss.of_all(rows, share=share), whole

    def begin(self, x: Float[Tensor, "n d_in"]) -> None:
        """Set what starts from data; the trainer calls it once, with rows in its scale."""

    def lr_factor(self, name: str) -> float:  # noqa: ARG002 - for architectures with other units
        """What the learning rate of a parameter is multiplied by."""
        return 1.0

    def constrain(self) -> None:
        """Bring weights back to where they may be; the trainer calls it after every step."""

    @property
    def W_enc(self) -> Float[Tensor, "d_in n_latents"]:
        """Encoder matrix in the field's orientation; a view, not a copy."""
        return self.W_enc_rows.T

    @property
    def widths(self) -> tuple[int, ...]:
        """Prefix sizes that reconstruct on their own; the last is n_latents."""
        return (self.config.n_latents,)

    @property
    def by_latent(self) -> tuple[str, ...]:
        """Parameters that processes may share by latent, a row a latent; none by default.

        An architecture that names them takes `objective.latents` into account.
        """
        return ()

    @property
    def d_out(self) -> int:
        """Width of the reconstruction; d_in, unless input and output sites differ."""
        return self.config.d_in

    @property
    def target_l0(self) -> float | None:
        """Active latents a token that training should reach by moving the sparsity term, if any."""
        return None

    @property
    def target_hook_name(self) -> str | None:
        """The hook whose activations are reconstructed, where it is not the one that is read."""
        return None

    @property
    def calibrated_l0(self) -> float | None:
        """Active latents a token that the inference threshold is set for; None: it has none.

        An SAE that gives a number here has a scalar buffer `threshold`, NaN until it is set, and
        `encode` refuses to work without it.
        """
        return None

    def with_threshold(self, threshold: float) -> "SAE":
        """A twin with this inference threshold, in the units of its pre-activations.

        Training sets the one that meets the target L0 on held-out rows; the running mean of the
        batches' smallest active value is kept in `meta["threshold_ema"]`.

        Raises:
            ConfigError: the architecture selects its latents without such a threshold.
        """
        if self.calibrated_l0 is None:
            raise ConfigError(
                f"a {self.config.type} SAE has no inference threshold to set to {threshold}; "
                "batch_topk has one, and what selects by batch_topk"
            )
        twin = copy.deepcopy(self)
        twin.get_buffer("threshold").fill_(threshold)
        return twin

    def values_above(self, x: Float[Tensor, "n d_in"], floor: float) -> Float[Tensor, " nnz"]:
        """All pre-activations above `floor` and above zero as one list: what a threshold cuts."""
        pre_acts = self.pre_acts(x).detach()
        return pre_acts[pre_acts > max(floor, 0.0)]

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.W_dec.device

    def pre_acts(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n n_latents"]:
        """Encoder output before selection, whole: n · n_latents values."""
        self._check_width(x)
        return torch.addmm(self.b_enc, x - self.b_dec, self.W_enc)

    def decode(self, latents: SparseLatents) -> Float[Tensor, "n d_out"]:
        """Reconstruction from active latents: Σ value · W_dec[latent] + b_dec."""
        return ops.sparse_decode(latents.values, latents.indices, self.W_dec) + self.b_dec

    def forward(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """Reconstruction x_hat of x."""
        return self.reconstruct(self.encode(x), x)

    def reconstruct(
        self,
        latents: SparseLatents,
        x: Float[Tensor, "n d_in"],  # noqa: ARG002 - for architectures that need it
    ) -> Float[Tensor, "n d_out"]:
        """x_hat of x from its latents, or from some of them or others in their place.

        That of `decode`, unless x adds to it besides through its latents: a linear map of x (skip),
        or the mean and spread of a normalised token.
        """
        return self.decode(latents)

    def folded(self, inputs: Affine, outputs: Affine | None = None) -> "SAE":
        """The SAE that does on raw x what this one does on inputs(x), but for its latents' scale.

        x_hat_raw = outputs⁻¹(x_hat(inputs(x))), and every latent is divided by the outputs' scale.
        With a scale and a shift alone the matrices stay as they are; a matrix (whitening) turns the
        rows of W_dec, which then have no unit norm.

        Args:
            inputs: map of what is read.
            outputs: map of what is reconstructed; that of the inputs by default, and another one
                only where the two are different activations.
        """
        assert outputs is None, "a transcoder folds two maps; this SAE reads what it reconstructs"
        map = inputs
        state = {name: tensor.clone() for name, tensor in self.state_dict().items()}
        for name in self._scaled_names():
            state[name] = state[name] / map.scale
        state["b_dec"] = map.undo(self.b_dec.detach().unsqueeze(0)).squeeze(0)
        if map.matrix is not None and map.inverse_matrix is not None:
            state["W_enc_rows"] = self.W_enc_rows.detach() @ map.matrix.T
            state["W_dec"] = self.W_dec.detach() @ map.inverse_matrix
        return self.with_tensors(state)

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "SAE":
        """A twin of the same config that holds `tensors`, by their names in `state_dict`."""
        twin = copy.copy(self)
        twin.meta = dict(self.meta)
        twin._parameters = {
            name: None if held is None else nn.Parameter(tensors[name], held.requires_grad)
            for name, held in self._parameters.items()
        }
        twin._buffers = {name: tensors[name] for name in self._buffers}
        return twin

    def save(self, folder: str | Path, *, format: str | None = None) -> Path:
        """Write config.json, sae.safetensors and README.md; an SAE that is there is replaced.

        Args:
            format: of another tool, e.g. "saelens" (docs/formats.md has them all). What is written
                is then read back and compared before it counts, and the report lies beside it.

        Raises:
            FormatError: that format cannot express this SAE; the message says why.
        """
        if format not in (None, OWN_NAME):
            return FOREIGN.get("any_format").save(self, folder, format=format)
        tensors = self.state_dict()
        tensors["W_enc"] = tensors.pop("W_enc_rows").T
        return write_folder(folder, tensors=tensors, fields=self._header(), meta=self.meta)

    def _header(self) -> dict[str, Any]:
        """What config.json says besides format and meta."""
        return self.config.model_dump()

    @staticmethod
    def load(
        folder: str | Path, *, device: str | torch.device = "cpu", format: str | None = None
    ) -> "SAE":
        """Read an SAE folder of ours or of another tool; its weights ask for no gradient.

        Files of other tools are recognised by their names and headers, never by executing them. The
        SAE is compared with the original's own formula before it is given out;
        `sae.meta["converted"]` says what was changed.

        Args:
            folder: a folder or file (docs/formats.md says what each tool leaves), or a place on the
                hub that was fetched before, as "owner/name/folder@revision".
            format: name of the other tool's format, where the files leave it open.

        Raises:
            FormatError: not an SAE folder, of a newer format, or its tensors do not fit its config.
            HubError: a place on the hub that is not in the cache.
        """
        if format != OWN_NAME and (format is not None or not is_own(folder)):
            theirs: SAE | None = FOREIGN.get("any_format").load(folder, format=format)
            if theirs is not None:
                return theirs.to(device)
        fields, meta, tensors = read_folder(folder)
        norm = fields.pop("input_norm", None)
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
        ready = sae if norm is None else _reading(norm, sae, folder)
        return ready.to(device).requires_grad_(False)

    def _scaled_names(self) -> tuple[str, ...]:
        """Tensors in the units of the latents, which a change of scale divides."""
        return ("b_enc",)

    def _target(self, x: Tensor, target: Tensor | None) -> Tensor:
        """What a batch should become: x itself, or `target` if its shape is right."""
        target = x if target is None else target
        if target.shape != (len(x), self.d_out):
            raise ShapeError(
                f"this {self.config.type} SAE writes activations of shape ({len(x)}, {self.d_out}) "
                f"for this batch; the target has {tuple(target.shape)}; check d_out and the target"
            )
        return target

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

INPUT_NORMS: Registry[Callable[..., Callable[[SAE], SAE]]] = Registry(
    "input normalisation", package="saetools.sae.input_norms", group="saetools.input_norms"
)
"""Ways to normalise a token before it is encoded, by name; only SAEs of other tools have one."""


def _reading(norm: Any, sae: SAE, folder: str | Path) -> SAE:
    """The SAE behind the normalisation that its config.json names."""
    try:
        fields = dict(norm)
        return INPUT_NORMS.get(str(fields.pop("type")))(**fields)(sae)
    except (TypeError, ValueError, KeyError) as error:
        raise FormatError(
            f"{folder}/config.json has the input_norm {norm!r}, which this version of saetools "
            f"does not know ({error}); known: {', '.join(INPUT_NORMS.names())}"
        ) from error
