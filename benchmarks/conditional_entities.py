"""How well a conditional intervention tells texts about one entity from all others.

    python benchmarks/conditional_entities.py RUN

RUN is a run folder on the planted model, e.g. of `saetools demo --only planted`. For each forget
entity the latent that fires in most of its texts and fewest others is chosen on half of the texts,
the threshold of ItD's score is calibrated there, and both are tried on the other half.
"""

import sys
from pathlib import Path

import torch

import saetools as st
from saetools.intervene import EditSizeTrigger, Scale
from saetools.intervene.calibrate import calibrate, text_statistics
from saetools.models.base import SubjectModel
from saetools.sae import SAE
from saetools.testbed import World

N_DOCS, N_OTHERS = 2500, 400


def firing(model: SubjectModel, sae: SAE, hook_name: str, texts: list[str]) -> torch.Tensor:
    """Share of the texts in which each latent fires, (n_latents,)."""
    fired = torch.zeros(sae.config.n_latents)
    for start in range(0, len(texts), 32):
        tokens = model.tokenize(texts[start : start + 32])
        x = model.activations(tokens, [hook_name])[hook_name]
        for row, content in zip(x, tokens.content, strict=True):
            fired += sae.encode(row[content]).dense().gt(0).any(0)
    return fired / len(texts)


def main(run: Path) -> None:
    """Print one row an entity."""
    torch.set_num_threads(1)
    model, sae = st.load_model("planted"), SAE.load(run / "sae")
    hook_name, world = sae.meta["hook_name"], World.build()
    texts = [document.text for document in world.documents(N_DOCS, 7)]
    print("| entity | texts | latent | AUROC | fires on its fresh texts | fires on fresh others |")
    print("|---|---|---|---|---|---|")
    for entity in world.forget_entities:
        name = getattr(entity, "name", entity)
        about = [text for text in texts if name in text]
        others = [text for text in texts if name not in text]
        half = len(about) // 2
        seen = firing(model, sae, hook_name, about[:half])
        latent = int((seen - firing(model, sae, hook_name, others[:N_OTHERS])).argmax())
        trigger = EditSizeTrigger(sae, Scale({latent: -8.0}))
        found = calibrate(
            model, trigger, targets=about[:half], others=others[:N_OTHERS], statistic="max"
        )
        fires = [
            text_statistics(model, trigger, fresh, statistic="max") > found.condition.threshold
            for fresh in (about[half:], others[N_OTHERS : 2 * N_OTHERS])
        ]
        shares = " | ".join(f"{float(fired.double().mean()):.3f}" for fired in fires)
        print(f"| {name} | {len(about)} | {latent} | {found.auroc:.3f} | {shares} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
