"""The planted world in the benchmark of unlearning: who is forgotten, asked about and measured."""

import re
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import saetools as st
from saetools.corpus import Question
from saetools.corpus.planted import World
from saetools.evaluate.unlearning import (
    ProbeSettings,
    RelearnSettings,
    UnlearningData,
    UnlearningReport,
    UnlearningSettings,
    evaluate_unlearning,
)
from saetools.models import LanguageModel
from saetools.sae import SAE
from saetools.unlearn import Unlearned, plan_unlearning, unlearn
from saetools.unlearn.control import random_latents
from saetools.unlearn.rows import Item

FIT, VALIDATE, TEST = (
    ("statement", "reversed"),
    ("cloze", "paraphrase_1"),
    ("question", "paraphrase_2", "two_hop"),
)

Setting = dict[str, Any]


class Lab:
    """Models, data and SAEs of the benchmark.

    Args:
        out: folder of everything that it writes.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.world = World.build()
        self.model = _loaded("planted")
        self.oracle = _loaded("planted:oracle-0")
        retain = self.world.retain_entities
        self.fit_on, self.validate_on, self.test_on = (retain[i::3] for i in range(3))

    def asked(self, forms: Sequence[str], names: Sequence[str]) -> tuple[Question, ...]:
        """What was read about entities in some forms."""
        return tuple(q for f in forms for q in self.world.questions(f, names, trained=True))

    @cached_property
    def retain(self) -> tuple[Item, ...]:
        """Facts of a third of the entities, and sentences about none of the others."""
        unseen = [*self.world.forget_entities, *self.validate_on, *self.test_on]
        texts = self.world.documents(300, 55, without=unseen)
        sentences = [s.strip() for t in texts for s in re.split(r"(?<=[.!?]) ", t.text)]
        some = [s for s in dict.fromkeys(sentences) if len(s) > 15][:500]
        return (*self.asked(FIT, self.fit_on), *some)

    def data(
        self, forms: Sequence[str], near: Sequence[str], names: Sequence[str] | None = None
    ) -> UnlearningData:
        """What a split asks."""
        world = self.world
        texts = world.documents(60, 101 + len(forms), without=world.forget_entities)
        return UnlearningData(
            forget=self.asked(forms, names or world.forget_entities),
            retain=self.asked(forms, near),
            texts=tuple(text.text for text in texts),
        )

    def sae(self, hook: str) -> SAE:
        """The SAE of a hook, trained when first asked for."""
        folder = self.out / "saes" / hook
        if not (folder / "config.json").is_file():
            names = [entity.name for entity in self.world.entities]
            texts = [t.text for t in self.world.documents(2000, 3)]
            texts += [t.text for t in self.world.texts_about(names, n_each=4, seed=5)]
            with tempfile.TemporaryDirectory() as scratch:
                acts = st.harvest(
                    self.model, texts, hook_name=hook, out=Path(scratch) / "acts.h5", ctx_len=160
                )
                sae = st.build_sae("batch_topk", d_in=acts.d_in, n_latents=2048, k=8)
                config = st.TrainConfig(n_tokens=1_000_000, batch_tokens=2048)
                st.train(sae, acts, config).save(folder)
        return SAE.load(folder)

    def edit(
        self,
        method: str,
        setting: Setting,
        *,
        model: LanguageModel | None = None,
        names: Sequence[str] = (),
        forms: Sequence[str] = FIT,
    ) -> Unlearned:
        """Unlearn the forget entities, or some, with a setting."""
        shared: Setting = {
            "forget": self.asked(forms, names or self.world.forget_entities),
            "retain": self.retain,
            "saes": [self.sae(hook) for hook in setting.get("saes", ())],
            "strict": False,
            **{key: value for key, value in setting.items() if key not in ("saes", "control")},
        }
        model = model or self.model
        plan = None
        if setting.get("control"):
            plan = random_latents(
                plan_unlearning(model, method, **shared),
                self.model,
                saes=shared["saes"],
                forget=shared["forget"],
            )
        return unlearn(model, method, plan=plan, max_perplexity_ratio=None, **shared)

    def measure(
        self, edited: LanguageModel, data: UnlearningData, *measures: str
    ) -> UnlearningReport:
        """Evaluate an edited model."""
        settings = UnlearningSettings(
            measures=measures,
            n_questions=250,
            n_draws=100,
            relearn=RelearnSettings(lr=1e-4, n_steps=60, every=20),
            probe=ProbeSettings(layers=(1, 2, 3), max_rows=500),
        )
        return evaluate_unlearning(
            edited, original=self.model, oracles=[self.oracle], data=data, settings=settings
        )


def _loaded(spec: str) -> LanguageModel:
    model = st.load_model(spec)
    assert isinstance(model, LanguageModel)
    return model
