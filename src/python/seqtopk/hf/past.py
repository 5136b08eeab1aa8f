# SPDX-License-Identifier: MIT
"""The past of online SeqTopK, which belongs to a KV cache and does what that does.

Rows always come with their places, so that a KV cache that was cropped, or reset, needs nothing: the next rows' places
say what is gone. What happens to a batch's rows cannot be seen from places, hence a KV cache that has a past is made one
of a class that passes it on.
"""

import functools

import torch

from .. import _core

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


class Past:
    """The states of all layers and all rows of a batch."""

    def __init__(self, owner, batch):
        self.owner, self.batch = owner, batch  # owner: the Patch, whose routers these are the states of
        self.cache = None  # made when the first logits tell their type

    def _make(self, batch, dtype):
        return _core.Cache(len(self.owner.routers), batch, dtype=dtype, **self.owner.cache_words)

    def step(self, layer, logits, forward, **more):
        if self.cache is None:
            if forward.past:
                raise ValueError(f"the KV cache has {forward.past} tokens that seqtopk has not routed: start with an empty "
                                 "one, after seqtopk.hf.patch")
            if logits.dtype not in DTYPES:
                raise TypeError(f"the model's logits are {logits.dtype}; seqtopk routes {', '.join(DTYPES.values())}")
            self.dtype = DTYPES[logits.dtype]
            self.cache = self._make(self.batch, self.dtype)
        return self.cache.step(layer, logits, forward.sequence_of_rows, forward.place_of_rows, token_mask=forward.mask,
                               **more)

    def select(self, parents):
        """Row i becomes what row parents[i] was."""
        parents = [int(p) for p in parents]
        if self.cache is not None and len(parents) <= self.cache.sequences:
            self.cache.reorder(parents)
        elif self.cache is not None:
            self._rebuild(parents)
        self.batch = len(parents)

    def _rebuild(self, parents):
        """More rows than there was room for: by way of bytes."""
        old, self.cache = self.cache, self._make(len(parents), self.dtype)
        lengths = {p: min(old.length(p, layer) for layer in range(old.layers)) for p in parents}
        blobs = {p: old.save(p, 0, length) for p, length in lengths.items() if length}
        for row, parent in enumerate(parents):
            if parent in blobs:
                self.cache.load(row, blobs[parent])

    def __deepcopy__(self, memo):
        copy = Past(self.owner, self.batch)
        if self.cache is not None:
            copy.cache, copy.dtype = self.cache, self.dtype
            copy._rebuild(list(range(self.batch)))
        return copy


@functools.lru_cache(maxsize=None)
def _following(kind):
    """A KV cache's class, but for telling the past what becomes of its rows."""

    class Following(kind):
        def reorder_cache(self, beam_idx):
            super().reorder_cache(beam_idx)
            self._seqtopk_past.select(beam_idx.tolist())

        def batch_repeat_interleave(self, repeats):
            super().batch_repeat_interleave(repeats)
            self._seqtopk_past.select([row for row in range(self._seqtopk_past.batch) for _ in range(repeats)])

        def batch_select_indices(self, indices):
            super().batch_select_indices(indices)
            self._seqtopk_past.select(torch.arange(self._seqtopk_past.batch)[indices.cpu()].tolist())

    Following.__name__, Following.__qualname__ = kind.__name__, kind.__qualname__
    return Following


def of(kv_cache):
    """The past of a KV cache, or None."""
    return getattr(kv_cache, "_seqtopk_past", None)


def begin(owner, forward):
    """The past that a forward goes on from: its KV cache's, or a new one."""
    past = of(forward.kv_cache) if forward.kv_cache is not None else None
    if past is not None and past.owner is owner and (forward.past or past.batch == forward.sequences):
        if past.batch != forward.batch:
            raise ValueError(f"the KV cache has {past.batch} rows, and the forward has {forward.batch}: repeat or select its "
                             "rows by its own batch_repeat_interleave or batch_select_indices")
        return past
    past = Past(owner, forward.sequences)
    if forward.kv_cache is not None:
        attach(forward.kv_cache, past)
    return past


def attach(kv_cache, past):
    if of(kv_cache) is None:
        kv_cache.__class__ = _following(type(kv_cache))
    kv_cache._seqtopk_past = past
