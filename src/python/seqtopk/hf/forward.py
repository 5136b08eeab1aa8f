# SPDX-License-Identifier: MIT
"""What a model's forward is about, for routers that are handed bare rows: whose rows they are, from which place on."""

import dataclasses
import functools
import inspect
from typing import Any, Optional

import torch


@dataclasses.dataclass
class Forward:
    batch: int
    tokens: int  # of each row of the batch
    past: int = 0  # tokens that the KV cache had before
    mask: Optional[torch.Tensor] = None  # [batch * tokens] bool; None: all count
    cu_seqlens: Optional[torch.Tensor] = None  # [sequences + 1], where sequences end: rows, or what is packed into them
    kv_cache: Any = None
    state: Any = None  # of online scope

    @property
    def sequences(self):
        return len(self.cu_seqlens) - 1

    @functools.cached_property
    def sequence_of_rows(self):
        return torch.repeat_interleave(torch.arange(self.sequences, dtype=torch.int32), self.cu_seqlens.diff())

    @functools.cached_property
    def place_of_rows(self):
        begins = torch.repeat_interleave(self.cu_seqlens[:-1], self.cu_seqlens.diff())
        return torch.arange(self.batch * self.tokens) - begins + self.past


def _arguments(module, args, kwargs):
    """By name, those that were given by place among them."""
    if not args:
        return kwargs
    names = [name for name in inspect.signature(type(module).forward).parameters if name != "self"]
    return {**dict(zip(names, args)), **kwargs}


def _mask(mask, tokens, past):
    """[batch, tokens] of the rows at hand, True where they count; or None: all do."""
    if mask is None:
        return None
    if isinstance(mask, dict):  # made in advance, as for static caches: one for each kind of layer
        mask = mask.get("full_attention", mask)
        if mask is None:
            return None
    if isinstance(mask, torch.Tensor) and mask.dim() == 2:
        mask = mask[:, -tokens:].to(torch.bool)
    elif isinstance(mask, torch.Tensor) and mask.dim() == 4 and mask.shape[-1] >= past + tokens:
        # [batch, heads or 1, tokens, keys], bool or to be added: what counts sees itself.
        mask = mask[:, 0].diagonal(past, -2, -1)
        mask = mask if mask.dtype == torch.bool else mask == 0
    else:
        raise ValueError("attention_mask: seqtopk.hf reads it as [batch, tokens], or of full attention as [batch, heads, tokens, "
                         "keys], to know which tokens are padding, and this is neither (a static cache of a sliding window?)")
    return None if bool(mask.all()) else mask


def _packed(module, words, batch):
    """Where sequences end that were packed into rows, or None: told outright, or by positions under the conditions that
    transformers makes masks of them."""
    offsets = words.get("cu_seq_lens_q")
    if offsets is not None:
        return offsets.to("cpu", torch.int32)
    positions, use_cache = words.get("position_ids"), words.get("use_cache")
    use_cache = getattr(module.config, "use_cache", False) if use_cache is None else use_cache
    if positions is None or positions.dim() != 2 or words.get("attention_mask") is not None or use_cache:
        return None
    positions = positions.expand(batch, -1)
    is_start = positions.diff(prepend=positions[:, :1]) != 1
    is_start[:, 0] = True
    starts = is_start.flatten().nonzero().flatten()
    return torch.cat([starts, starts.new_tensor([positions.numel()])]).to("cpu", torch.int32)


def read(module, args, kwargs, of_sequences):
    """The Forward of a model that is called with these arguments. Who competes with whom is read if `of_sequences`."""
    words = _arguments(module, args, kwargs)
    rows = words.get("input_ids") if words.get("input_ids") is not None else words.get("inputs_embeds")
    if rows is None:
        raise ValueError("seqtopk.hf: a forward without input_ids and inputs_embeds has no rows to route")
    batch, tokens = rows.shape[:2]
    if not of_sequences:
        return Forward(batch, tokens)
    kv_cache = words.get("cache")
    if kv_cache is None:  # an empty one is false
        kv_cache = words.get("past_key_values")
    past = int(kv_cache.get_seq_length()) if kv_cache is not None else 0
    mask = _mask(words.get("attention_mask"), tokens, past)
    offsets = None if kv_cache is not None else _packed(module, words, batch)
    if offsets is None:
        offsets = torch.arange(batch + 1, dtype=torch.int32) * tokens
    return Forward(batch, tokens, past, None if mask is None else mask.reshape(-1).contiguous(), offsets, kv_cache)
