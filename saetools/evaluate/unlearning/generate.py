"""Greedy continuation of many prompts through next-token logits, whatever gives them."""

from collections.abc import Sequence

import torch

from saetools.evaluate.unlearning.candidate import Candidate

__all__ = ["continue_greedily"]


def continue_greedily(
    candidate: Candidate,
    prompts: Sequence[Sequence[int]],
    n_tokens: Sequence[int],
    *,
    batch_tokens: int,
) -> list[list[int]]:
    """Continue each prompt by its number of tokens, less where the context is full.

    No cache is kept, for a candidate need not have one: a token costs a forward pass.

    Args:
        prompts: token ids, special tokens included.
        n_tokens: how many tokens to add to each.
        batch_tokens: tokens in one forward pass, padding included.
    """
    whole = [min(len(p) + n, candidate.ctx_len) for p, n in zip(prompts, n_tokens, strict=True)]
    order = sorted(range(len(prompts)), key=lambda i: whole[i])
    found: list[list[int]] = [[] for _ in prompts]
    while order:
        size = max(1, batch_tokens // whole[order[0]])
        while size > 1 and whole[order[:size][-1]] * len(order[:size]) > batch_tokens:
            size -= 1
        batch, order = order[:size], order[size:]
        rows = _extend(candidate, [list(prompts[i]) for i in batch], [whole[i] for i in batch])
        for i, row in zip(batch, rows, strict=True):
            found[i] = row[len(prompts[i]) :]
    return found


def _extend(candidate: Candidate, rows: list[list[int]], lengths: Sequence[int]) -> list[list[int]]:
    while True:
        going = [i for i, row in enumerate(rows) if len(row) < lengths[i]]
        if not going:
            return rows
        tokens = candidate.tokenize([rows[i] for i in going])
        with torch.no_grad():
            logits = candidate.logits(tokens)
        last = tokens.mask.sum(1).to(logits.device) - 1
        best = logits[torch.arange(len(going), device=logits.device), last].argmax(-1)
        for i, token in zip(going, best.tolist(), strict=True):
            rows[i].append(int(token))
