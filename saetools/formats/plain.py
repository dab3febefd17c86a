"""The form that most tools save: an encoder that reads x as it is, and a rule over its outputs.

    a = (s · x) @ W_enc + b_enc          scores = a, or a · ‖rows of W_dec‖
    latents = a where the rule keeps the score
    x_hat = (latents @ W_dec + b_dec) / s_out + x @ W_skipᵀ

Gemma Scope, Llama Scope, Llamascopium and circuit-tracer differ in names, in s and in what is
folded in already. `Plain` is what their files say; it gives the formula of the original, and the
SAE of ours that should compute the same. `plain_of` is the way back, for writing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saetools.errors import FormatError
from saetools.formats import formulas
from saetools.formats.base import Foreign, Note, assembled, fold_centre
from saetools.formats.formulas import Fired, Formula, Reading
from saetools.sae import SAE, Affine, Normed

__all__ = ["Plain", "Rule", "described", "plain_of"]

Rule = Literal["relu", "jump", "top_k"]

_ARCHITECTURE = {"relu": "standard", "jump": "jumprelu", "top_k": "topk"}
_L0 = 32  # of an SAE whose files do not say it; only for the config, nothing is computed with it


@dataclass(frozen=True)
class Plain:
    """Weights as a file has them, in the field's orientation, and what is done with them.

    Args:
        rule: relu: every positive score; jump: every one above its threshold; top_k: the k largest.
        threshold: one a latent, in the units of the scores, for the rule jump.
        k: for the rule top_k.
        W_skip: of a transcoder, where it has a linear map beside the latents.
        scale_in, scale_out: s and s_out above.
        by_norm: whether scores are multiplied by the norms of the decoder's rows.
        centred: whether b_dec is taken off s · x before it is encoded.
        transcodes: whether another activation is written than is read.
    """

    W_enc: Float[Tensor, "d_in n_latents"]
    b_enc: Float[Tensor, " n_latents"]
    W_dec: Float[Tensor, "n_latents d_out"]
    b_dec: Float[Tensor, " d_out"]
    rule: Rule
    threshold: Float[Tensor, " n_latents"] | None = None
    k: int | None = None
    W_skip: Float[Tensor, "d_out d_in"] | None = None
    scale_in: float = 1.0
    scale_out: float = 1.0
    by_norm: bool = False
    centred: bool = False
    transcodes: bool = False

    def __post_init__(self) -> None:
        if self.W_enc.ndim != 2 or self.W_dec.ndim != 2:
            raise _unfitting("W_enc and W_dec", (self.W_enc.shape, self.W_dec.shape), "matrices")
        (d_in, n_latents), d_out = self.W_enc.shape, self.W_dec.shape[1]
        wanted: dict[str, tuple[int, ...]] = {
            "b_enc": (n_latents,), "W_dec": (n_latents, d_out), "b_dec": (d_out,),
            "threshold": (n_latents,), "W_skip": (d_out, d_in),
        }  # fmt: skip
        for name, shape in wanted.items():
            found = getattr(self, name)
            if found is not None and found.shape != shape:
                raise _unfitting(name, tuple(found.shape), shape)
        if not self.transcodes and d_in != d_out:
            raise _unfitting("W_dec", (n_latents, d_out), (n_latents, d_in))

    @cached_property
    def norms(self) -> Float[Tensor, " n_latents"] | None:
        """What scores are multiplied by, if by anything."""
        if not self.by_norm:
            return None
        norms: Tensor = torch.linalg.vector_norm(self.W_dec, dim=1, dtype=torch.float64)
        return norms.clamp_min(1e-30)

    def formula(self) -> Formula:
        """What the original computes, from its own tensors."""

        def formula(x: Tensor) -> Reading:
            read = x * self.scale_in - (self.b_dec.double() if self.centred else 0.0)
            scores = formulas.linear(read, self.W_enc, self.b_enc)
            fired = self._fired(scores if self.norms is None else scores * self.norms)
            latents = fired.latents if self.norms is None else fired.latents / self.norms
            x_hat = formulas.linear(latents, self.W_dec, self.b_dec) / self.scale_out
            if self.W_skip is not None:
                x_hat = x_hat + formulas.linear(x, self.W_skip.T)
            return Reading(latents, fired.margin, x_hat)

        return formula

    def foreign(
        self, *, meta: Mapping[str, Any], notes: tuple[Note, ...] = (), l0: float | None = None,
        target_hook_name: str | None = None,
    ) -> Foreign:  # fmt: skip
        """The SAE of ours, with what had to be changed.

        Args:
            l0: active latents a token, where the files say it.
        """
        n_latents = len(self.b_enc)
        own = [*notes, *self._notes()]
        fields: dict[str, Any] = {}
        tensors: dict[str, Tensor] = {}
        if self.transcodes:
            kind = "transcoder"
            k = self.k or round(l0 or _L0)
            fields = {
                "d_out": self.W_dec.shape[1], "target_hook_name": target_hook_name,
                "skip": self.W_skip is not None, "k": min(max(k, 1), n_latents),
                "selection": "topk" if self.rule == "top_k" else "batch_topk",
            }  # fmt: skip
            if self.rule != "top_k":
                fields["thresholds"] = "per_latent"
                tensors["threshold"] = self._floor()
            if self.W_skip is not None:
                tensors["W_skip"] = self.W_skip * (self.scale_out / self.scale_in)
        else:
            kind = _ARCHITECTURE[self.rule]
            if self.rule == "jump":
                tensors["threshold"] = self._floor()
                fields["target_l0"] = float(min(max(l0 or _L0, 1e-3), n_latents))
            elif self.rule == "top_k":
                fields["k"] = self.k
        W_enc, b_enc, W_dec = self.W_enc, self.b_enc.double(), self.W_dec
        if not self.transcodes and not self.centred:
            b_enc = b_enc + fold_centre(W_enc, self.b_dec)
        if self.norms is not None:
            b_enc = b_enc * self.norms
            W_enc = W_enc * self.norms.float()
            W_dec = W_dec / self.norms.float().unsqueeze(1)
        sae = assembled(
            kind, W_enc=W_enc, b_enc=b_enc, W_dec=W_dec, b_dec=self.b_dec, meta=meta,
            tensors=tensors, **fields,
        )  # fmt: skip
        if self.scale_in != 1.0 or self.scale_out != 1.0:
            outputs = Affine(self.scale_out) if self.transcodes else None
            sae = sae.folded(Affine(self.scale_in), outputs)
        norms = torch.ones(1, dtype=torch.float64) if self.norms is None else self.norms
        scale = (norms / self.scale_out).unsqueeze(0)
        return Foreign(sae, self.formula(), tuple(own), lambda x: scale.expand(len(x), -1))

    def _floor(self) -> Tensor:
        return torch.zeros(len(self.b_enc)) if self.threshold is None else self.threshold

    def _fired(self, scores: Tensor) -> Fired:
        if self.rule == "top_k":
            return formulas.top_k(scores, int(self.k or 0))
        if self.rule == "jump" and self.threshold is not None:
            return formulas.jump(scores, self.threshold)
        return formulas.relu(scores)

    def _notes(self) -> list[Note]:
        found: list[Note] = []
        if not self.transcodes and not self.centred:
            found.append(Note("b_dec", "not taken off their input, so b_enc gains b_dec @ W_enc"))
        if self.by_norm:
            found.append(
                Note(
                    "decoder norms",
                    "folded into W_enc and b_enc; our latents are theirs times the norm of the row",
                )
            )
        if self.scale_in != 1.0 or self.scale_out != 1.0:
            found.append(
                Note(
                    "normalisation",
                    f"their input is scaled by {self.scale_in:.8g} and their output by "
                    f"{1 / self.scale_out:.8g}; both folded in, so raw activations are read and "
                    f"our latents are theirs times {1 / self.scale_out:.8g}",
                )
            )
        if self.transcodes and self.rule == "relu":
            found.append(Note("selection", "relu is one threshold of zero a latent here"))
        return found


def plain_of(
    sae: SAE, *, title: str, rules: tuple[Rule, ...], skip: bool
) -> tuple[Plain, list[Note]]:
    """The plain form of an SAE of ours, and what was changed.

    Args:
        title: of the format it is for, in messages.
        rules: that the format has, the preferred one first.
        skip: whether it has transcoders with a linear map beside the latents.

    Raises:
        FormatError: the format has no such selection, or the SAE normalises its input.
    """
    kind = sae.config.type
    state = {name: tensor.detach().cpu() for name, tensor in sae.state_dict().items()}
    if isinstance(sae, Normed):
        raise FormatError(
            f"{title} has no SAE that normalises each token ({type(sae.norm).__name__}), so this "
            "one cannot be written for it; write it as saelens"
        )
    if "W_skip" in state and not skip:
        raise FormatError(
            f"{title} has no linear map beside the latents, so this {kind} with skip cannot be "
            "written for it; write it as gemma_scope_2 or circuit_tracer"
        )
    rule, threshold, notes = _selection(sae, state)
    if rule == "relu" and "relu" not in rules:
        rule, threshold = "jump", torch.zeros(sae.config.n_latents)
        notes.append(Note("threshold", "zero for all latents: relu"))
    if kind == "gated" or rule not in rules:
        raise FormatError(
            f"{title} has no selection like that of a {kind} SAE, so this one cannot be written "
            "for it; `saetools convert --help` names the formats, saelens has most selections"
        )
    W_enc, b_enc = state["W_enc_rows"].T, state["b_enc"]
    if kind != "transcoder":
        b_enc = (b_enc.double() - fold_centre(W_enc, state["b_dec"])).float()
        notes.append(Note("b_dec", "not taken off the input there, so b_enc loses b_dec @ W_enc"))
    notes.append(Note("lost", "settings of training"))
    plain = Plain(
        W_enc, b_enc, state["W_dec"], state["b_dec"], rule, threshold,
        k=getattr(sae.config, "k", None) if rule == "top_k" else None,
        W_skip=state.get("W_skip"), transcodes=kind == "transcoder",
    )  # fmt: skip
    return plain, notes


def _selection(sae: SAE, state: Mapping[str, Tensor]) -> tuple[Rule, Tensor | None, list[Note]]:
    """The rule of an SAE of ours, its thresholds, and what is lost of it."""
    notes = [Note("lost", f"widths {list(sae.widths)}")] if len(sae.widths) > 1 else []
    threshold = state.get("threshold")
    if threshold is None:
        return ("relu" if sae.config.type in ("standard", "gated") else "top_k"), None, notes
    if bool(threshold.isnan().any()):
        raise FormatError(
            f"this {sae.config.type} SAE has no threshold yet, so other tools cannot read it; "
            "train it, or call saetools.train.calibrate(sae, store)"
        )
    if threshold.ndim == 0:
        notes.append(Note("threshold", f"one for all latents, {float(threshold):.6g}, repeated"))
        notes.append(Note("lost", f"k = {getattr(sae.config, 'k', None)} of the training batches"))
        threshold = threshold.expand(sae.config.n_latents)
    return "jump", threshold.clamp_min(0).clone(), notes


def _unfitting(name: str, found: object, wanted: object) -> FormatError:
    return FormatError(
        f"the weights do not fit each other: {name} should be {wanted}, is {found}; the files are "
        "damaged or of another format"
    )


def described(path: Path) -> str:
    """All of a path that could say what is in it; hub caches write `/` as `--`."""
    return str(path.absolute()).replace("--", "/")
