"""What a language model and a text encoder of Hugging Face have in common as subject models."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saetools.errors import BridgeError, ConfigError, FormatError, ShapeError
from saetools.models._hooks import read
from saetools.models.base import Edit, SubjectModel, TokenBatch
from saetools.models.bridge import Bridge, boot
from saetools.models.edit_stack import EditStack
from saetools.models.forward_pass import ForwardPass
from saetools.models.hook_names import aliases, canonical, layer_of, not_found, parse
from saetools.models.sites import bridge_name, model_type, output_paths, sites_of
from saetools.models.tokens import special_ids, tokenizer_fingerprint
from saetools.models.weights import WeightStamp, fingerprint_weights, weight_stamp

__all__ = ["HFSubject"]

# Some tokenizers say "no limit" with a number of thirty digits.
_NO_LIMIT = 10**6


class HFSubject(SubjectModel):
    """A subject model around a Hugging Face module.

    Args:
        hf: the module; it is not changed.
        tokenizer: its tokenizer.
        name: what to call the model.
        ctx_len: longest sequence, if shorter than the module and the tokenizer say.
        bridge: a bridge that already wraps `hf`.
    """

    def __init__(
        self,
        hf: nn.Module,
        tokenizer: Any,
        *,
        name: str,
        ctx_len: int | None = None,
        bridge: Bridge | None = None,
    ) -> None:
        config = _sized_config(hf)
        self.hf = hf
        self.tokenizer = tokenizer
        self.name = name
        self.d_model = int(config.hidden_size)
        self.n_layers = int(config.num_hidden_layers)
        self.ctx_len = min(_longest(hf, tokenizer), ctx_len or _NO_LIMIT)
        self._sites = sites_of(hf, self.n_layers)
        self._paths = output_paths(hf, self._sites)
        self._by_path = {path: name for name, path in self._paths.items()}
        self._edits = EditStack(hf, self._sites, special_ids(tokenizer))
        self._given_bridge = bridge
        self._booted: tuple[WeightStamp, Bridge] | None = None
        self._fingerprint: tuple[WeightStamp, str] | None = None

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}: {type(self.hf).__name__}, {self.n_layers} "
            f"layers, d_model {self.d_model}, ctx_len {self.ctx_len}, {self.device})"
        )

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.hf.parameters()).device

    @property
    def fingerprint(self) -> str:
        """Hash of the weights, 16 hex digits; computed when first asked, and after a change."""
        stamp = weight_stamp(self.hf)
        if self._fingerprint is None or self._fingerprint[0] != stamp:
            self._fingerprint = stamp, fingerprint_weights(self.hf)
        return self._fingerprint[1]

    @property
    def tokenizer_fingerprint(self) -> str:
        """Hash of vocabulary and special tokens, 16 hex digits."""
        return tokenizer_fingerprint(self.tokenizer)

    def hook_names(self) -> tuple[str, ...]:
        """Names of the plain sites, which are fast; `bridge_hook_names` has the rest."""
        return tuple(self._sites)

    def bridge_hook_names(self) -> tuple[str, ...]:
        """Names that only transformer_lens serves; boots the bridge, which takes seconds.

        Raises:
            BridgeError: transformer_lens does not support the model.
        """
        layouts = self._bridge().layouts
        return tuple(name for name in layouts if parse(name) is None)

    def resolve(self, hook_name: str) -> str:
        """Return the canonical spelling of a hook name; looks in the bridge if it is not plain.

        Raises:
            HookNotFoundError: the model lacks it.
        """
        if hook_name in self._by_path:
            return self._by_path[hook_name]
        site = parse(hook_name)
        if site is not None and canonical(site) in self._sites:
            return canonical(site)
        known = list(self._sites)
        why = ""
        layer = layer_of(hook_name)
        # Every name of transformer_lens has "hook_" in it: without it, booting cannot help.
        if "hook_" in hook_name and (layer is None or layer < self.n_layers):
            try:
                layouts = self._bridge().layouts
            except BridgeError as error:
                why = (
                    f"Only plain hooks exist, {self._plain_forms()}: transformer_lens, which names "
                    f"more, cannot boot {type(self.hf).__name__} ({error})."
                )
            else:
                if hook_name in layouts:
                    return hook_name
                known += [name for name in layouts if name not in self._sites]
        raise not_found(hook_name, model=self.name, n_layers=self.n_layers, known=known, why=why)

    def aliases(self, hook_name: str) -> list[str]:
        """All spellings of a hook that `resolve` understands, the canonical one first.

        `resid_post.3` gives `blocks.3.hook_resid_post`, `blocks.3.hook_out`, `resid_post.3` and,
        for a Llama, `model.layers.3`.

        Raises:
            HookNotFoundError: the model lacks it.
        """
        name = self.resolve(hook_name)
        site = parse(name) if name in self._sites else None
        return [name] if site is None else aliases(site, self._paths.get(name))

    def width(self, hook_name: str) -> int:
        """Width of the activation at a hook; heads are joined.

        Raises:
            ShapeError: it has no fixed width (attention patterns).
        """
        name = self.resolve(hook_name)
        if name in self._sites:
            return self.d_model
        width = self._bridge().layouts[name].width
        if width is None:
            raise ShapeError(
                f"'{name}' has no fixed width: it grows with the length of the text. It can be "
                "read and edited, but has no dictionary"
            )
        return width

    def activations(
        self, tokens: TokenBatch, hook_names: Sequence[str]
    ) -> dict[str, Float[Tensor, "batch pos d_in"]]:
        """Activations at the hooks, keyed by the names as asked; stops after the last needed."""
        resolved = {asked: self.resolve(asked) for asked in hook_names}
        wanted = list(dict.fromkeys(resolved.values()))
        if not wanted:
            return {}
        plain = all(name in self._sites for name in wanted) and self._edits.bridge is None
        with self._inference():
            if plain:
                sites = {name: self._sites[name] for name in wanted}
                seen = read(sites, lambda: self._run(tokens))
            else:
                seen = self._read_in_bridge(wanted, tokens)
        return {asked: seen[name] for asked, name in resolved.items()}

    def editing(self, edits: Mapping[str, Edit]) -> AbstractContextManager[None]:
        """Within the block every forward pass replaces the activations at the hooks by the edits'.

        At a site that only the bridge has, the passes that are edited are those of this object's
        methods; calling `hf` itself raises a ConfigError until the block ends.
        """
        named = [(self.resolve(hook_name), edit) for hook_name, edit in edits.items()]
        needs_bridge = any(name not in self._sites for name, _ in named)
        return self._edits.open(named, self._bridge() if needs_bridge else None)

    def running_pass(self, x: Float[Tensor, "batch pos d_in"]) -> ForwardPass:
        """What is known of the forward pass that an edit's activation `x` belongs to."""
        return self._edits.running(x)

    @abstractmethod
    def _forward(self, root: nn.Module, tokens: TokenBatch) -> Any:
        """Call a module with a batch that is on its device."""

    def _run(self, tokens: TokenBatch) -> Any:
        """One forward pass under whatever edits are open."""
        return self._forward(self._edits.root, tokens.to(self.device))

    def _read_in_bridge(self, names: Sequence[str], tokens: TokenBatch) -> dict[str, Tensor]:
        bridge = self._bridge()
        inside = {name: bridge_name(name, model_type(self.hf)) for name in names}
        with self._edits.moved_to(bridge):
            seen = bridge.read(list(inside.values()), lambda: self._run(tokens))
        return {name: seen[there] for name, there in inside.items()}

    @property
    def _runs_bridged(self) -> bool:
        """Whether passes go through transformer_lens' form of the model."""
        return self._given_bridge is not None or self._edits.bridge is not None

    def _bridge(self) -> Bridge:
        if self._given_bridge is not None:
            return self._given_bridge
        if self._edits.bridge is not None:
            return self._edits.bridge
        # transformer_lens splits joint QKV weights into copies, so new weights need a new boot.
        stamp = weight_stamp(self.hf)
        if self._booted is None or self._booted[0] != stamp:
            with self._edits.suspended():
                self._booted = stamp, boot(self.hf)
        return self._booted[1]

    def _plain_forms(self) -> str:
        """The plain sites in a few words, e.g. `blocks.{0-5}.hook_resid_pre`."""
        ends = dict.fromkeys(name.rsplit(".", 1)[1] for name in self._sites)
        return ", ".join(f"blocks.{{0-{self.n_layers - 1}}}.{end}" for end in ends)

    def _limit(self, ctx_len: int | None) -> int:
        if ctx_len is None:
            return self.ctx_len
        if not 2 <= ctx_len <= self.ctx_len:
            raise ConfigError(
                f"asked for ctx_len {ctx_len}; '{self.name}' takes 2 to {self.ctx_len} tokens"
            )
        return ctx_len

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """No gradients, and no dropout even while somebody is training the module."""
        training = [m for m in self.hf.modules() if m.training] if self.hf.training else []
        for module in training:
            module.training = False
        try:
            with torch.no_grad():
                yield
        finally:
            for module in training:
                module.training = True


def _sized_config(hf: nn.Module) -> Any:
    config: Any = hf.config
    if not hasattr(config, "hidden_size") or not hasattr(config, "num_hidden_layers"):
        parts = [name for name in vars(config) if name.endswith("_config")]
        raise FormatError(
            f"looked in the config of {type(hf).__name__} for the width and the number of its "
            f"blocks (hidden_size, num_hidden_layers); it has {', '.join(parts) or 'neither'}. "
            "Pass the text part of the model on its own, e.g. model.text_model"
        )
    return config


def _longest(hf: nn.Module, tokenizer: Any) -> int:
    """Longest sequence that both the position table and the tokenizer allow."""
    config: Any = hf.config
    limits = [_NO_LIMIT, int(tokenizer.model_max_length)]
    if getattr(config, "max_position_embeddings", None):
        limits.append(int(config.max_position_embeddings))
    for name, module in hf.named_modules():
        # RoBERTa and MPNet count positions from beyond the padding index.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            skipped = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - skipped)
    longest = min(limits)
    # Relative positions have no end; 512 is what T5 was trained on.
    return 512 if longest == _NO_LIMIT else longest
