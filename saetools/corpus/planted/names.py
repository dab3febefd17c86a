"""Made-up names: a head and a tail, each of our own syllable grammar.

A head is consonant, vowel, consonant; a tail begins with a consonant and never has two of them in a
row. So a name can be cut in one place only, a tokenizer can learn the pieces, and no piece tells of
what kind an entity is.
"""

import random

__all__ = ["HEADS", "TAILS", "draw_names"]

_HEADS = """
Bel Bor Dal Dov Fen Fip Gal Gor Hul Jas Jev Kal Kes Kiv Lor Lum Mav Mel Mir Nal Nov Nur Pel Pov Rav
Ren Ril Sar Sel Sov Tal Tev Tor Tul Vas Vel Vor Wen Yal Zan Zer Zul
"""
_TAILS = """
bari dana doma fal fika gan gora gul keda kuma lan lita lo mara mek mora muna nak neva nis pal pira
pona rel rik rona rus sefi sira tak tena tiva tor vak vena vik wela wona yaro zad zemi zor
"""
HEADS = tuple(_HEADS.split())
TAILS = tuple(_TAILS.split())


def draw_names(n: int, rng: random.Random) -> tuple[str, ...]:
    """`n` different names, every pair of head and tail being equally likely.

    Raises:
        ValueError: there are fewer than `n` names in all.
    """
    return tuple(rng.sample([head + tail for head in HEADS for tail in TAILS], n))
