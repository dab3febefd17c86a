"""A world whose truth is known, and small language models trained on it, with and without a part.

    world = World.build()                       # the texts: made-up entities, facts drawn at random
    model = load_model("planted")               # has read all of it; ships with the package
    oracle = load_model("planted:oracle-0")     # the same run without the forget entities

The texts are made in `saetools.corpus.planted`; here they are turned into models.
"""

from saetools.corpus.planted import FORMS, Entity, Fact, LabelledText, World, token_labels

__all__ = ["FORMS", "Entity", "Fact", "LabelledText", "World", "token_labels"]
