"""Find the concepts a language model or text encoder has learned, look at them, act on them.

    import saetools as st
    model = st.load_model("tiny")
    acts = st.harvest(model, texts, hook_name="resid_post.1", out="acts.h5")
    sae = st.build_sae("topk", d_in=acts.d_in, n_latents=512, k=8)
    sae = st.train(sae, acts, st.TrainConfig(n_tokens=200_000))

Importing the package imports nothing heavy: a name is loaded when it is first used (PEP 562).
"""

import importlib
import sys
from operator import attrgetter
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers only: at run time these names load when first used
    from saetools.analysis import LatentIndex, index_latents
    from saetools.config import load_config
    from saetools.corpus import CORPORA, load_corpus
    from saetools.erase import ERASERS, Eraser, erased, fit_eraser
    from saetools.errors import SaetoolsError
    from saetools.evaluate import METRICS, evaluate, find_concept
    from saetools.explore import explore
    from saetools.harvest import harvest
    from saetools.intervene import ablate, splice, steer
    from saetools.models import load_model
    from saetools.naming import NAMERS, name_latents, score_names
    from saetools.sae import ARCHS, SAE, build_sae
    from saetools.store import ActivationStore
    from saetools.train import TrainConfig, train
    from saetools.types import SparseLatents
    from saetools.unlearn import METHODS, unlearn

    register_corpus = CORPORA.register
    register_eraser = ERASERS.register
    register_method = METHODS.register
    register_metric = METRICS.register
    register_namer = NAMERS.register
    register_sae = ARCHS.register

__all__ = [
    "SAE",
    "ActivationStore",
    "Eraser",
    "LatentIndex",
    "SaetoolsError",
    "SparseLatents",
    "TrainConfig",
    "ablate",
    "build_sae",
    "erased",
    "evaluate",
    "explore",
    "find_concept",
    "fit_eraser",
    "harvest",
    "index_latents",
    "load_config",
    "load_corpus",
    "load_model",
    "name_latents",
    "register_corpus",
    "register_eraser",
    "register_method",
    "register_metric",
    "register_namer",
    "register_sae",
    "score_names",
    "splice",
    "steer",
    "train",
    "unlearn",
]

# Each name: the package that holds it, and its path in there.
_HOMES = {
    "SAE": ("sae", "SAE"),
    "ActivationStore": ("store", "ActivationStore"),
    "Eraser": ("erase", "Eraser"),
    "LatentIndex": ("analysis", "LatentIndex"),
    "SaetoolsError": ("errors", "SaetoolsError"),
    "SparseLatents": ("types", "SparseLatents"),
    "TrainConfig": ("train", "TrainConfig"),
    "ablate": ("intervene", "ablate"),
    "build_sae": ("sae", "build_sae"),
    "erased": ("erase", "erased"),
    "evaluate": ("evaluate", "evaluate"),
    "explore": ("explore", "explore"),
    "find_concept": ("evaluate", "find_concept"),
    "fit_eraser": ("erase", "fit_eraser"),
    "harvest": ("harvest", "harvest"),
    "index_latents": ("analysis", "index_latents"),
    "load_config": ("config", "load_config"),
    "load_corpus": ("corpus", "load_corpus"),
    "load_model": ("models", "load_model"),
    "name_latents": ("naming", "name_latents"),
    "register_corpus": ("corpus", "CORPORA.register"),
    "register_eraser": ("erase", "ERASERS.register"),
    "register_method": ("unlearn", "METHODS.register"),
    "register_metric": ("evaluate", "METRICS.register"),
    "register_namer": ("naming", "NAMERS.register"),
    "register_sae": ("sae", "ARCHS.register"),
    "score_names": ("naming", "score_names"),
    "splice": ("intervene", "splice"),
    "steer": ("intervene", "steer"),
    "train": ("train", "train"),
    "unlearn": ("unlearn", "unlearn"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'saetools' has no attribute '{name}'")
    package, path = _HOMES[name]
    module = importlib.import_module(f"saetools.{package}")
    if name == package:
        return module  # a verb: the package that __setattr__ below has made callable
    return attrgetter(path)(module)


def __dir__() -> list[str]:
    return sorted({*__all__, *globals()})


# `train`, `harvest`, `evaluate`, `explore` and `unlearn` are a function and the package that holds
# it. Python binds a package to its parent's attribute whenever anything below it is imported, so
# what `saetools.train` means would depend on import order. A function bound there instead would
# break `import saetools.train.loop as loop` and string patches, which walk the attributes. So the
# package stays what it is, and is callable: `saetools.train(...)` runs `saetools.train.train`.
class _Verb(ModuleType):
    """A package named as its main function; calling the one calls the other."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function of the same name."""
        return self.__wrapped__(*args, **kwargs)

    @property
    def __wrapped__(self) -> Any:
        """The function: here `inspect.signature` and help tools find its parameters."""
        return vars(self)[self.__name__.rpartition(".")[2]]


class _Saetools(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _HOMES.get(name) == (name, name):
            value.__class__ = _Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Saetools
