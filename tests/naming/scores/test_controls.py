"""Control names are other latents' names, and the same ones each time."""

from dataclasses import replace

from saetools.naming import Name
from saetools.naming.scores.controls import trials_of


def _names(n, namer="a"):
    return [Name(i, f"name {i}", 1.0, "", namer, "word", (f"w{i}",)) for i in range(n)]


def test_the_permutation_has_no_fixed_point_and_moves_every_name_once():
    names = _names(7)
    trials = trials_of(names, names, seed=0)
    swapped = [trial.swapped.latent for trial in trials]
    assert sorted(swapped) == list(range(7))
    assert all(trial.swapped.latent != trial.name.latent for trial in trials)
    assert all(trial.random.latent != trial.name.latent for trial in trials)
    assert trials == trials_of(names, names, seed=0)


def test_controls_do_not_depend_on_which_latents_are_scored():
    names = _names(9)
    assert trials_of(names[2:4], names, seed=3) == trials_of(names, names, seed=3)[2:4]


def test_a_twin_is_no_control():
    names = [replace(name, name="same", words=("same",)) for name in _names(4)]
    assert all(t.random is None and t.swapped is None for t in trials_of(names, names, seed=0))


def test_controls_come_from_the_same_namer():
    names = [*_names(4, "a"), *[replace(n, latent=n.latent + 4, namer="b") for n in _names(4)]]
    for trial in trials_of(names, names, seed=0):
        assert trial.random.namer == trial.swapped.namer == trial.name.namer


def test_one_name_alone_has_no_control():
    (trial,) = trials_of(_names(1), _names(1), seed=0)
    assert trial.random is None
    assert trial.swapped is None
