"""The sites that only transformer_lens names: queries, patterns, MLP neurons, norms and more.

Plain hooks are two to five times faster and serve the residual stream and the sublayers' outputs.
Everything else goes through a `TransformerBridge`, booted once, when such a name is first asked
for. Booting rewrites the module it is given, so it gets a copy; the copy shares the weights.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from jaxtyping import Float
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from saetools.errors import BridgeError, ConfigError
from saetools.models._hooks import Stop
from saetools.models.quiet import quiet

__all__ = ["Bridge", "HookFn", "Layout", "boot", "is_bridge", "wrap"]

HookFn = Callable[..., Tensor | None]

# transformer_lens boots these encoders only inside a model with a head. The head is never run.
_HEADED = {
    "BertModel": ("BertForMaskedLM", "bert"),
    "RobertaModel": ("RobertaForMaskedLM", "roberta"),
}

# Two lengths tell the position axis from a head axis that happens to have the same size.
_PROBE_BATCH, _PROBE_LENGTHS = 2, (3, 4)

# No list of causes exists: an unsupported family fails in whatever line first disagrees.
_BOOT_FAILURES = (
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Layout:
    """How the tensor at a hook becomes rows (batch, pos, width): heads are joined.

    Args:
        axis: where the position axis is; for attention patterns the query position.
        width: entries a position, or None where that depends on the length of the text.
    """

    axis: int
    width: int | None

    def to_rows(self, x: Tensor) -> Float[Tensor, "batch pos width"]:
        """Return the tensor as one row a position."""
        return x.movedim(self.axis, 1).flatten(2)

    def from_rows(self, rows: Tensor, *, like: Tensor) -> Tensor:
        """Undo `to_rows` for a tensor of the shape of `like`."""
        return rows.reshape(like.movedim(self.axis, 1).shape).movedim(1, self.axis)


@dataclass(frozen=True)
class Bridge:
    """A booted TransformerBridge.

    Args:
        tl: the TransformerBridge.
        root: the module to call in place of the plain Hugging Face model.
        layouts: all hooks that fire and have a position axis.
    """

    tl: Any
    root: nn.Module
    layouts: Mapping[str, Layout]

    def hooks(self, functions: Sequence[tuple[str, HookFn]]) -> AbstractContextManager[Any]:
        """Add hook functions for the length of a block."""
        block: AbstractContextManager[Any] = self.tl.hooks(fwd_hooks=list(functions))
        return block

    def read(self, names: Sequence[str], forward: Callable[[], object]) -> dict[str, Tensor]:
        """Run `forward` until all hooks have been seen; return rows (batch, pos, width)."""
        seen: dict[str, Tensor] = {}

        def catcher(name: str) -> HookFn:
            def catch(x: Tensor, *, hook: object) -> None:  # noqa: ARG001 (transformer_lens passes it)
                seen[name] = self.layouts[name].to_rows(x.detach())
                if len(seen) == len(names):
                    raise Stop

            return catch

        with self.hooks([(name, catcher(name)) for name in names]), suppress(Stop):
            forward()
        return seen


def is_bridge(model: object) -> bool:
    """True for a TransformerBridge; does not import transformer_lens to find out."""
    return any(
        base.__name__ == "TransformerBridge" and base.__module__.startswith("transformer_lens")
        for base in type(model).__mro__
    )


def boot(hf: nn.Module) -> Bridge:
    """Boot a bridge on a weight-sharing copy of a Hugging Face model.

    Raises:
        BridgeError: transformer_lens does not support the model.
    """
    with quiet():
        try:
            # Takes 2 to 8 s, which nobody should pay who only uses plain sites.
            from transformer_lens import TransformerBridge

            whole, attribute = _with_head(_shared_copy(hf).eval())
            tl = TransformerBridge.boot_transformers(
                "in-memory",
                hf_model=whole,
                tokenizer=_no_tokenizer(),
                device=str(next(hf.parameters()).device),
                dtype=next(hf.parameters()).dtype,
            )
        except _BOOT_FAILURES as error:
            raise BridgeError(_reason(error)) from error
        return wrap(tl, attribute=attribute)


def wrap(tl: Any, *, attribute: str | None = None) -> Bridge:
    """Make a Bridge of a TransformerBridge that is already booted.

    Args:
        tl: the TransformerBridge.
        attribute: where in its Hugging Face model the part to call sits; None for all of it.

    Raises:
        ConfigError: its weights were processed, so it no longer is the Hugging Face model.
    """
    if getattr(tl, "compatibility_mode", False):
        raise ConfigError(
            "the TransformerBridge is in compatibility mode, which folds norms into weights; "
            "activations would not be those of the Hugging Face model. Pass one that is not"
        )
    root = tl.original_model if attribute is None else getattr(tl.original_model, attribute)
    return Bridge(tl, root, _layouts(tl, root))


def _shared_copy(hf: nn.Module) -> Any:
    # Tensors in the memo are taken for copied, so the copy points at the same ones.
    tensors = [*hf.parameters(), *hf.buffers()]
    memo: dict[int, Any] = {id(tensor): tensor for tensor in tensors}
    twin: Any = copy.deepcopy(hf, memo)
    twin.config.architectures = [type(hf).__name__]
    return twin


def _no_tokenizer() -> Any:
    # The bridge only ever sees token ids. Given the real tokenizer it changes its padding, and may
    # fetch it again by name; given none it fetches one.
    words = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")


def _with_head(hf: Any) -> tuple[nn.Module, str | None]:
    headed = _HEADED.get(type(hf).__name__)
    if headed is None:
        return hf, None
    class_name, attribute = headed
    reference = next(hf.parameters())
    # The head's random weights are never used; making them must not move the global generator.
    with torch.random.fork_rng(devices=[]):
        config = copy.deepcopy(hf.config)
        config.architectures = [class_name]
        whole: nn.Module = getattr(transformers, class_name)(config)
    whole.to(device=reference.device, dtype=reference.dtype).eval()
    setattr(whole, attribute, hf)
    return whole, attribute


def _layouts(tl: Any, root: nn.Module) -> dict[str, Layout]:
    first, second = (_probe(tl, root, length) for length in _PROBE_LENGTHS)
    layouts = {}
    for name, shape in first.items():
        other = second.get(name, ())
        axes = [i for i in range(1, len(shape)) if (shape[i], other[i]) == _PROBE_LENGTHS]
        if len(shape) < 3 or shape[0] != _PROBE_BATCH or not axes:
            continue
        widths = [_size(s) // (_PROBE_BATCH * n) for s, n in ((shape, 3), (other, 4))]
        layouts[name] = Layout(axes[0], widths[0] if widths[0] == widths[1] else None)
    return layouts


def _probe(tl: Any, root: nn.Module, length: int) -> dict[str, tuple[int, ...]]:
    """Shapes of everything that fires in one forward pass over `length` tokens."""
    shapes: dict[str, tuple[int, ...]] = {}

    def noter(name: str) -> HookFn:
        def note(x: Any, *, hook: object) -> None:  # noqa: ARG001 (transformer_lens passes it)
            if isinstance(x, Tensor) and x.is_floating_point():
                shapes[name] = tuple(x.shape)

        return note

    device = next(root.parameters()).device
    ids = torch.full((_PROBE_BATCH, length), 2, dtype=torch.int64, device=device)
    names = [name for name in tl.hook_dict if _can_fire(tl, name)]
    with tl.hooks(fwd_hooks=[(name, noter(name)) for name in names]), torch.no_grad():
        root(input_ids=ids, attention_mask=torch.ones_like(ids))
    return shapes


def _can_fire(tl: Any, name: str) -> bool:
    # Some hooks exist but wait for a setting; adding a function to one of them is a ValueError.
    try:
        with tl.hooks(fwd_hooks=[(name, _nothing)]):
            return True
    except ValueError:
        return False


def _nothing(x: Tensor, *, hook: object) -> None:  # noqa: ARG001 (transformer_lens passes both)
    return None


def _size(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    # For an unknown architecture it goes on to list some two hundred known ones.
    return f"{type(error).__name__}: {lines[0][:100] if lines else 'no message'}"
