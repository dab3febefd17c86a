"""PISCES: rewrite the MLP rows that write a concept's latents, so that they write the opposite.

Row w_i of an MLP's last map is what hidden unit i writes. With e_j the encoder column of a chosen
latent j of an SAE that reads the MLP's output,

    score_ij = w_i · e_j   (no bias, no activation function),     m = max_ij |score_ij|.

Rows with |score_ij| > τ · max_i |score_ij| are rewritten: z = encode(w), z_j <- s · μ · m with
s = -1 (or the latent's direction in the plan), w' = decode(z) + (w - decode(encode(w))). With
`signed`, s is multiplied by the sign of unit i's activation where j fires: units of a gated MLP
fire both ways. All latents of a row are set together; rows that are not chosen keep their bits.

Source: Gur-Arieh, Suslik, Hong, Barez, Geva 2025, arXiv:2505.22586, checked against its code (m is
the maximum over all latents of the SAE, as in the code). There a concept's latents are those whose
decoder row writes the concept's words (`words`); without words they are chosen by `select`. Its
filters on validation data are left to whoever reads the plan.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from saetools.errors import ConfigError
from saetools.models.base import SubjectModel
from saetools.models.sites import Site
from saetools.sae import SAE
from saetools.unlearn.base import METHODS, Fit, Job, Material, Method, MethodConfig
from saetools.unlearn.plan import Plan, PlannedLatent
from saetools.unlearn.rows import make_batch
from saetools.unlearn.select import choose_latents, read_evidence
from saetools.unlearn.sites import name_of, read_rows, watching, write_rows, writer
from saetools.unlearn.words import written_words

__all__ = ["Pisces", "rewritten"]

_BATCH = 32


class _Config(MethodConfig):
    """Settings of PISCES."""

    strength: float = Field(default=10.0, gt=0, description="μ: what z_j is set to, in units of m")
    threshold: float = Field(
        default=0.5, gt=0, lt=1, description="τ: share of the largest score that a row must pass"
    )
    k: int = Field(default=10, ge=1, description="latents at each SAE")
    min_ratio: float = Field(
        default=3.0, ge=0, description="a latent fires this many times as much on forget tokens"
    )
    signed: bool = Field(default=True, description="follow the sign with which a unit fires")
    words: tuple[str, ...] = Field(
        default=(), description="keep only latents that write one of these tokens, up or down"
    )


@METHODS.register("pisces")
class Pisces(Method):
    """Rewrite, in closed form, the MLP rows that write the chosen latents."""

    Config = _Config
    config: _Config
    needs_sae = True

    def plan(self, material: Material) -> Plan:
        """The latents of every SAE of an MLP's output, and the maps that will be rewritten.

        Raises:
            ConfigError: an SAE reads another site than `mlp_out`, or no latent passes.
        """
        config, model = self.config, material.model
        latents: list[PlannedLatent] = []
        rejected: dict[str, int] = {}
        maps = []
        for hook, sae in material.saes.items():
            maps.append(name_of(model, _mlp_writer(model, hook)))
            found = choose_latents(
                read_evidence(
                    model, sae, forget=material.forget, retain=material.retain, hook_name=hook
                ),
                hook_name=hook,
                k=config.k,
                min_ratio=config.min_ratio,
            )
            chosen = written_words(model, sae, found.latents, wanted=config.words)
            counts = {
                **found.rejected,
                "writes none of the words": len(found.latents) - len(chosen),
            }
            for why, n in counts.items():
                rejected[why] = rejected.get(why, 0) + n
            latents += chosen
        if not latents:
            raise ConfigError(
                f"no latent writes any of {', '.join(config.words)}: {rejected}; give other words, "
                "or none, or raise k"
            )
        return Plan(
            "pisces",
            (
                f"rewrite the MLP rows that write {len(latents)} latents of {len(maps)} SAEs",
                f"to -{config.strength:g} times the largest score, where a row's own is above "
                f"{config.threshold:g} of the latent's largest",
            ),
            tuple(f"{name}.weight" for name in maps),
            tuple(latents),
            {"k": config.k, "min_ratio": config.min_ratio, "threshold": config.threshold},
            rejected,
        )

    def fit(self, job: Job) -> Fit:
        """Rewrite the rows, map by map."""
        n_rows: dict[str, int] = {}
        for hook in dict.fromkeys(one.hook_name for one in job.plan.latents):
            chosen, sae = job.plan.of(hook), job.material.saes[hook]
            linear = _mlp_writer(job.edited, hook)
            before = read_rows(linear)
            signs = _signs(job, hook, sae, chosen) if self.config.signed else None
            after = rewritten(
                before,
                sae,
                chosen,
                strength=self.config.strength,
                threshold=self.config.threshold,
                signs=signs,
            )
            moved = (after != before).any(1)
            write_rows(linear, after, only=moved)
            n_rows[hook] = int(moved.sum())
        return Fit(facts={"rows rewritten": n_rows})


@torch.no_grad()
def rewritten(
    rows: Float[Tensor, "d_hidden d_in"],
    sae: SAE,
    latents: Sequence[PlannedLatent],
    *,
    strength: float,
    threshold: float,
    signs: Float[Tensor, "d_hidden m"] | None = None,
) -> Float[Tensor, "d_hidden d_in"]:
    """Rows in which the chosen latents are set to direction · sign · strength · m.

    Args:
        rows: what each hidden unit writes.
        latents: the m chosen ones.
        strength: μ.
        threshold: τ.
        signs: 1 or -1 by unit and latent; 1 by default.
    """
    index = torch.tensor([one.latent for one in latents], dtype=torch.int64, device=sae.device)
    facing = torch.tensor([float(one.direction) for one in latents], device=sae.device)
    w = rows.to(sae.device)
    score = (w @ sae.W_enc[:, index]).abs()  # (d_hidden, m)
    m = score.max()
    chosen = score > threshold * score.max(0, keepdim=True).values
    old = sae.encode(w).of(index)  # (d_hidden, m)
    wanted = (facing * strength * m).expand_as(score)
    if signs is not None:
        wanted = wanted * signs.to(sae.device)
    change = torch.where(chosen, wanted - old, 0.0) @ sae.W_dec[index]
    return torch.where((change != 0).any(1, keepdim=True), w + change, w).to(rows.device)


@torch.no_grad()
def _signs(
    job: Job, hook: str, sae: SAE, latents: Sequence[PlannedLatent]
) -> Float[Tensor, "d_hidden m"]:
    """Sign of the summed activation of each hidden unit over forget tokens where a latent fires."""
    model = job.material.model
    index = torch.tensor([one.latent for one in latents], dtype=torch.int64, device=sae.device)
    linear = _mlp_writer(model, hook)
    total: Tensor | None = None
    for start in range(0, len(job.material.forget), _BATCH):
        batch = make_batch(model, job.material.forget[start : start + _BATCH])
        with watching({"hidden": Site(linear, "input")}) as seen:
            out = model.activations(batch.tokens, [hook])[hook]
        where = batch.tokens.content
        fires = sae.encode(out[where].to(sae.device, torch.float32)).of(index) > 0  # (n, m)
        part = seen["hidden"][where].to(sae.device, torch.float32).T @ fires.float()
        total = part if total is None else total + part
    assert total is not None  # there is at least one forget row
    return torch.where(total < 0, -1.0, 1.0)


def _mlp_writer(model: SubjectModel, hook: str) -> torch.nn.Module:
    if "mlp_out" not in hook:
        raise ConfigError(
            f"pisces rewrites what an MLP writes, so it needs SAEs of mlp_out.<layer>; got one of "
            f"{hook}. Train one there, or use crisp"
        )
    return writer(model, hook)
