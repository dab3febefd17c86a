"""Memory that a training step uses again and again."""

from torch import Tensor

__all__ = ["Scratch"]


class Scratch:
    """Buffers that are used again: on a CPU fresh pages cost more than the sums that fill them."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Memory for a tensor of this shape; what an earlier call under `name` got is void."""
        n_values = 1
        for size in shape:
            n_values *= size
        held = self._held.get(name)
        fits = held is not None and held.dtype == like.dtype and held.device == like.device
        if held is None or not fits or held.numel() < n_values:
            held = self._held[name] = like.new_empty(n_values)
        return held[:n_values].view(shape)
