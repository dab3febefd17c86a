"""Worlds in which the right answer is known, and how much of it was found.

    world = World.build()                       # texts of made-up entities, facts drawn at random
    model = load_model("planted")               # has read all of it; ships with the package
    oracle = load_model("planted:oracle-0")     # the same run without the forget entities
    source = SyntheticSource(config, n_tokens=1_000_000)        # rows with planted directions

The texts are made in `saetools.corpus.planted`; here they are turned into models.
"""

from saetools.corpus.planted import FORMS, Entity, Fact, LabelledText, World, token_labels

__all__ = ["FORMS", "Entity", "Fact", "LabelledText", "World", "token_labels"]
