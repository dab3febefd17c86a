"""The limits that a verdict rests on."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["VerdictRules"]


class VerdictRules(BaseModel):
    """What a verdict rests on; fractions from 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_efficacy: float = Field(default=0.9, description="E: least share that must be gone")
    max_residue: float = Field(default=0.1, description="most that probes may read above an oracle")
    min_resistance: float = Field(default=0.8, description="L: least resistance to relearning")
    max_form_gap: float = Field(default=0.2, description="most form gap above the oracles'")
    min_neighbours: float = Field(default=0.9, description="N: least that neighbours must keep")
    min_utility: float = Field(default=0.95, description="U: least that other texts must keep")
