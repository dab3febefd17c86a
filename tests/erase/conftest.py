"""Planted rows with one concept."""

import pytest

from saetools.testing.concept import PlantedConcept, planted_concept


@pytest.fixture(scope="session")
def planted() -> PlantedConcept:
    """960 rows of 120 texts, half of them with the concept."""
    return planted_concept()
