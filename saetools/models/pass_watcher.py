"""Follows a model's forward calls, to know where each row of an activation stands.

An edit sees one activation at a time. Where its rows stand is read off the arguments of the model's
own forward call, and off `generate` while that runs, so it is right with and without KV cache, with
padding on either side, and in beam search, which reorders rows between steps.
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from saetools.models.forward_pass import ForwardPass, RowNames
from saetools.models.tokens import is_special

__all__ = ["PassWatcher"]


@dataclass
class _Generation:
    """A `generate` that is running: columns of its prompt, and all ids at its next step."""

    prompt_columns: int
    ids: Tensor | None = None


class PassWatcher:
    """Follows the forward passes of a model and says what is known of the one now running.

    Args:
        specials: token ids that are never content.
    """

    def __init__(self, specials: Sequence[int]) -> None:
        self._specials = specials
        self._number = 0
        self._call: _Call | None = None
        self._generation: _Generation | None = None
        self._pass: ForwardPass | None = None
        self._inside_root = False

    def watch(self, root: nn.Module, stack: ExitStack) -> None:
        """Follow the calls of `root` until the stack closes."""
        inner = getattr(root, "base_model", root)
        stack.callback(root.register_forward_pre_hook(self._see_call, with_kwargs=True).remove)
        if inner is not root:
            stack.callback(root.register_forward_hook(self._leave, always_call=True).remove)
            # For whoever calls the inner model, past the head.
            stack.callback(
                inner.register_forward_pre_hook(self._see_inner, with_kwargs=True).remove
            )
        if hasattr(root, "generate"):
            _wrap(root, "generate", self._watch_generate, stack)
            _wrap(root, "prepare_inputs_for_generation", self._watch_step, stack)

    def for_activation(self, x: Tensor) -> Bool[Tensor, "batch pos"]:
        """Return the content mask of the current call; all True where its ids are not known."""
        return self.running(x).content

    def running(self, x: Tensor) -> ForwardPass:
        """What is known of the pass that the activation `x` (batch, pos, d_in) belongs to."""
        fits = self._pass is not None and self._pass.content.shape == x.shape[:2]
        if not fits or self._pass is None:
            call = self._call
            if call is None or call.shape != x.shape[:2]:
                call = _Call(None, None, 0, tuple(x.shape[:2]))
            self._pass = self._described(call, x.device)
        return self._pass

    def _described(self, call: "_Call", device: torch.device) -> ForwardPass:
        batch, pos = call.shape
        ids = None if call.ids is None else call.ids.to(device)
        columns = call.n_past + torch.arange(pos, device=device)
        real = torch.ones(batch, pos, dtype=torch.bool, device=device)
        before = columns.expand(batch, -1)  # (batch, pos)
        whole = None
        if call.attention is not None:
            whole = call.attention.to(device).bool()[:, : call.n_past + pos]
            real = whole[:, -pos:] if pos else whole[:, :0]
            before = (whole.long().cumsum(1) - whole.long())[:, -pos:]
        content = real if ids is None else real & ~is_special(ids, self._specials)
        n_prompt = self._prompt_columns(call)
        generated = (columns >= n_prompt).expand(batch, -1)
        length = torch.full((batch,), n_prompt, device=device)
        if whole is not None:
            length = whole[:, :n_prompt].long().sum(1)
        in_prompt = content & ~generated
        end = torch.where(in_prompt, before, -1).amax(1) if pos else length.new_full((batch,), -1)
        # Later chunks of a prompt hold its end; a generated step does not.
        if call.n_past + pos < n_prompt:
            end = torch.full_like(end, -1)
        return ForwardPass(
            number=self._number,
            ids=ids,
            content=content,
            real=real,
            place=before,
            generated=generated,
            prompt_length=length,
            prompt_content_end=end,
            n_past=call.n_past,
            # The ids of a step are copied to the CPU for this, so only if somebody asks.
            row_names=functools.cache(functools.partial(_row_names, call, self._all_ids(call))),
        )

    def _prompt_columns(self, call: "_Call") -> int:
        if self._generation is not None:
            return self._generation.prompt_columns
        # A pass that goes on from a cache is the step of somebody's own loop.
        return call.n_past if call.n_past else call.shape[1]

    def _all_ids(self, call: "_Call") -> Tensor | None:
        """Token ids of the cache and of the call."""
        if self._generation is not None and self._generation.ids is not None:
            return self._generation.ids[:, : call.n_past + call.shape[1]]
        return None if call.n_past else call.ids

    def _see_call(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._number += 1
        self._call = self._pass = None
        self._inside_root = True
        self._see(args, kwargs)

    def _see_inner(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._inside_root:
            self._see(args, kwargs)
        else:
            self._see_call(module, args, kwargs)
            self._inside_root = False

    def _leave(self, *_: Any) -> None:
        self._inside_root = False

    def _see(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids: Any = kwargs.get("input_ids", args[0] if args else None)
        embeds: Any = kwargs.get("inputs_embeds")
        attention: Any = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        flat = isinstance(attention, Tensor) and attention.ndim == 2
        known = isinstance(ids, Tensor) and not ids.is_floating_point()
        # What the outer call has shown is better than embeddings or an expanded mask.
        if self._call is not None and not (known and flat):
            return
        if self._call is None:
            self._pass = None
        n_past = _cache_length(kwargs)
        if known:
            shape = tuple(ids.shape)
        elif isinstance(embeds, Tensor):
            ids, shape = None, tuple(embeds.shape[:2])
        else:
            return
        self._call = _Call(
            ids, _whole(attention, n_past, shape[1]) if flat else None, n_past, shape
        )
        self._pass = None

    def _watch_generate(self, generate: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        given = [kwargs.get(key) for key in ("input_ids", "inputs", "inputs_embeds")] + [*args[:1]]
        given.append(kwargs.get("attention_mask"))
        lengths = [g.shape[1] for g in given if isinstance(g, Tensor) and g.ndim > 1]
        outer = self._generation
        self._generation = _Generation(max(lengths, default=1))
        try:
            return generate(*args, **kwargs)
        finally:
            self._generation = outer

    def _watch_step(self, prepare: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if self._generation is not None and isinstance(ids, Tensor):
            self._generation.ids = ids
        return prepare(*args, **kwargs)


@dataclass(frozen=True)
class _Call:
    """Arguments of one forward call that matter here."""

    ids: Tensor | None
    attention: Tensor | None
    n_past: int
    shape: tuple[int, ...]


def _whole(attention: Tensor, n_past: int, n_new: int) -> Tensor | None:
    """The attention mask over the cache and the new columns; None if it says nothing of these."""
    if attention.shape[1] == n_new and n_past:
        attention = torch.nn.functional.pad(attention.long(), (n_past, 0), value=1)
    return attention[:, : n_past + n_new] if attention.shape[1] >= n_past + n_new else None


def _row_names(call: _Call, ids: Tensor | None) -> RowNames | None:
    """Each row's tokens before and after a call, padding not counted."""
    if ids is None or ids.shape[0] != call.shape[0]:
        return None
    rows, n_past = ids.cpu(), call.n_past
    keep = torch.ones_like(rows, dtype=torch.bool)
    if call.attention is not None and call.attention.shape[1] == rows.shape[1]:
        keep = call.attention.cpu().bool()
    before, after = [], []
    for row, kept in zip(rows, keep, strict=True):
        before.append(row[:n_past][kept[:n_past]].numpy().tobytes())
        after.append(row[kept].numpy().tobytes())
    return before, after


def _cache_length(kwargs: dict[str, Any]) -> int:
    # transformers called it `past_key_values` up to 5.x, and `cache` since.
    for name in ("cache", "past_key_values"):
        cache: Any = kwargs.get(name)
        if hasattr(cache, "get_seq_length"):
            return int(cache.get_seq_length())
        if isinstance(cache, tuple) and cache:
            return int(cache[0][0].shape[-2])
    return 0


def _wrap(
    root: nn.Module, name: str, around: Callable[[Callable[..., Any], Any, Any], Any], stack: Any
) -> None:
    """Put a method of one module inside `around` until the stack closes."""
    held = root.__dict__.get(name)
    method = getattr(root, name, None)
    if method is None:
        return

    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return around(method, args, kwargs)

    def restore() -> None:
        if held is None:
            root.__dict__.pop(name, None)
        else:
            root.__dict__[name] = held

    root.__dict__[name] = wrapped
    stack.callback(restore)
