"""CRISP: train low-rank adapters until the chosen latents fall silent on what is to be forgotten.

Latents are chosen by `select` at each SAE. With p the SAE's pre-activations of a token in the model
being trained, a chosen latent j that fires in the *original* there is driven down through

    a_j = ReLU(p_j + |λ · mean_n(p)|),    L_u = mean over SAEs of the mean of the nonzero a_j,

so that it ends well below zero; where no a_j is left, L_u is 0. On retain rows the activations at
the SAEs' hooks, and those of the last block, are held to the original's:

    L = (1 - β) · L_u + β · L_r + β · γ · L_c.

Source: Ashuach, Arad, Mueller, Tutek, Belinkov 2025, arXiv:2508.13650, checked against its code.
Differences: activations are those at the SAE's own hook (its code reads the block's input instead
of the output, on which the SAEs were trained); ReLU stands for the SAE's own threshold, which is at
least 0, so a latent is driven lower and the same for every architecture; L_c is taken on retain
rows (the paper writes 20 short texts for it); both squared differences are divided by the mean
square of the original's activations, so that one β serves models of any scale. λ is 5 to 40 in
the paper; it depends on the SAE, and our own have mean pre-activations of half the size of an
active latent, so that 1 already makes a latent as silent as any other.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from saetools.errors import ConfigError
from saetools.models.base import SubjectModel
from saetools.models.hook_names import layer_of
from saetools.models.sites import blocks_of
from saetools.sae import SAE
from saetools.unlearn.base import METHODS, Adapter, Fit, Job, Material, Method
from saetools.unlearn.losses import forward, squared_difference
from saetools.unlearn.plan import Plan, PlannedLatent
from saetools.unlearn.rows import Batch
from saetools.unlearn.select import choose_latents, read_evidence
from saetools.unlearn.sites import name_of, plain_sites, watching
from saetools.unlearn.training import TrainedConfig, train_weights

__all__ = ["Crisp", "silencing_loss"]


class _Config(TrainedConfig):
    """Settings of CRISP."""

    k: int = Field(default=30, ge=1, description="latents to silence at each SAE")
    min_ratio: float = Field(
        default=3.0, ge=0, description="a latent fires this many times as much on forget tokens"
    )
    strength: float = Field(
        default=1.0, ge=0, description="λ: how far below zero, in mean pre-activations"
    )
    beta: float = Field(default=0.99, gt=0, lt=1, description="β: share of the retain loss")
    coherence: float = Field(
        default=0.01, ge=0, description="gamma: of the last block's difference"
    )
    rank: int = Field(default=8, ge=1, description="rank of the adapters; alpha is twice that")
    dropout: float = Field(default=0.05, ge=0, lt=1, description="of the adapters, in training")


@METHODS.register("crisp")
class Crisp(Method):
    """Silence the chosen latents through adapters, which are merged into the weights."""

    Config = _Config
    config: _Config
    needs_sae = True

    def plan(self, material: Material) -> Plan:
        """The latents at every SAE, and the linear maps that get an adapter.

        Raises:
            ConfigError: no latent passes at an SAE, or an SAE reads what no adapter can change.
        """
        config, model = self.config, material.model
        latents: list[PlannedLatent] = []
        rejected: dict[str, int] = {}
        for hook, sae in material.saes.items():
            evidence = read_evidence(
                model, sae, forget=material.forget, retain=material.retain, hook_name=hook
            )
            chosen = choose_latents(
                evidence, hook_name=hook, k=config.k, min_ratio=config.min_ratio
            )
            latents += chosen.latents
            for why, n in chosen.rejected.items():
                rejected[why] = rejected.get(why, 0) + n
        names = _adapted(material, self._layers(material))
        return Plan(
            "crisp",
            (
                f"silence {len(latents)} latents at {len(material.saes)} SAEs on forget rows",
                "hold the activations of retain rows",
                f"through adapters of rank {config.rank}, merged into the weights",
            ),
            tuple(f"{name}.weight" for name in names),
            tuple(latents),
            {"k": config.k, "min_ratio": config.min_ratio},
            rejected,
            {"steps": config.n_steps, "learning rate": config.lr},
        )

    def fit(self, job: Job) -> Fit:
        """Train adapters and merge them."""
        peft = _peft()
        config = self.config
        hooks = list(dict.fromkeys(one.hook_name for one in job.plan.latents))
        last = f"resid_post.{job.edited.n_layers - 1}"
        sites = plain_sites(job.edited, [*hooks, last])
        lora = peft.LoraConfig(
            r=config.rank,
            lora_alpha=2 * config.rank,
            lora_dropout=config.dropout,
            target_modules=[name.removesuffix(".weight") for name in job.plan.weights],
            bias="none",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(
                job.material.seed
            )  # peft draws its matrices from the global generator
            adapted: Any = peft.get_peft_model(job.edited.hf, lora)
            weights: list[nn.Parameter] = [p for p in adapted.parameters() if p.requires_grad]
            job.edited.hf.train()
            with watching(sites) as seen:
                loss_of = self._loss(job, hooks, last, seen)
                losses = train_weights(job, loss_of, config, weights=weights)
            job.edited.hf.eval()
        tensors = peft.get_peft_model_state_dict(adapted)
        adapter = Adapter(lora, {name: tensor.clone() for name, tensor in tensors.items()})
        adapted.merge_and_unload()
        return Fit(losses, {"n_adapter_weights": sum(w.numel() for w in weights)}, adapter)

    def _loss(self, job: Job, hooks: Sequence[str], last: str, seen: Mapping[str, Tensor]) -> Any:
        config, original = self.config, job.material.model
        chosen = {
            hook: torch.tensor([one.latent for one in job.plan.of(hook)], dtype=torch.int64)
            for hook in hooks
        }

        def loss_of(forget: Batch, retain: Batch) -> Mapping[str, Tensor]:
            forward(job.edited, forget)
            before = original.activations(forget.tokens, hooks)
            parts = []
            for hook in hooks:
                sae, where = job.material.saes[hook], forget.tokens.content
                loss = silencing_loss(
                    sae, seen[hook][where], before[hook][where], chosen[hook], config.strength
                )
                parts.append(loss)
            gone = torch.stack(parts).mean()
            forward(job.edited, retain)
            now = original.activations(retain.tokens, [*hooks, last])
            kept = torch.stack([_relative(seen[hook], now[hook], retain) for hook in hooks]).mean()
            calm = _relative(seen[last], now[last], retain)
            share = 1 - config.beta
            total = share * gone + config.beta * (kept + config.coherence * calm)
            return {"total": total, "forget": gone, "retain": kept, "coherence": calm}

        return loss_of

    def _layers(self, material: Material) -> tuple[int, ...]:
        """Blocks that get adapters: those given, or all up to the last SAE's."""
        read = {hook: layer_of(hook) for hook in material.saes}
        depth = [layer for layer in read.values() if layer is not None]
        layers = self.config.layers or tuple(range(max(depth) + 1))
        for hook, layer in read.items():
            if layer is not None and layer < min(layers):
                raise ConfigError(
                    f"the SAE at {hook} lies before the first adapted block {min(layers)}: nothing "
                    "that is trained can change what it reads; adapt earlier blocks or leave it out"
                )
        return layers


def silencing_loss(sae: SAE, x: Tensor, before: Tensor, latents: Tensor, strength: float) -> Tensor:
    """Mean activation, raised by |λ · mean pre-activation|, of chosen latents where they fired.

    Args:
        x: activations of the model being trained, (n, d_in), with gradient.
        before: those of the original, (n, d_in).
        latents: the chosen latents, (m,).
        strength: λ.

    Returns:
        0 where none of them fired in the original, or none is left above zero.
    """
    p = sae.pre_acts(x.to(sae.device, torch.float32))  # (n, n_latents)
    with torch.no_grad():
        fired = sae.encode(before.to(sae.device, torch.float32)).of(latents) > 0  # (n, m)
    raised = p[:, latents] + (strength * p.mean(1, keepdim=True)).abs()
    left = raised.clamp_min(0)[fired & (raised > 0)]
    return left.mean() if len(left) else x.sum() * 0


def _relative(now: Tensor, before: Tensor, batch: Batch) -> Tensor:
    size = before[batch.tokens.content].float().square().mean().clamp_min(1e-12)
    return squared_difference(now, before, batch) / size


def _adapted(material: Material, layers: Sequence[int]) -> list[str]:
    """Names of all linear maps in the blocks."""
    model: SubjectModel = material.model
    blocks = blocks_of(model.hf, model.n_layers)
    maps = [
        module
        for layer in layers
        for module in blocks[layer].modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    ]
    return [name_of(model, module) for module in maps]


def _peft() -> Any:
    try:
        import peft  # an extra: only this method needs it
    except ImportError as error:
        raise ConfigError(
            "crisp trains adapters with peft, which is not installed; run pip install "
            '"saetools[unlearn]"'
        ) from error
    return peft
