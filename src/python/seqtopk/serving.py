# SPDX-License-Identifier: MIT
"""What the plug-ins for vLLM and SGLang share: settings, whose the rows of a forward are, and the routers of a model.

An engine says before each forward which tokens of which requests its rows are; its routers are handed bare logits, layer by
layer. TopK needs no more than those. SeqTopK is online: a token competes with those before it in its request, so that nothing
depends on where the chunks of a prompt end or on what else is in the batch.
"""

import dataclasses
import itertools
import os
from typing import Any, Optional, Union

import numpy as np
import torch

from . import _core

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


@dataclasses.dataclass(frozen=True)
class Settings:
    router: str = "off"  # 'off': the engine's own; 'topk'; 'seqtopk'
    min: int = 1
    max: Union[int, str] = "k+2"
    cache: str = "exact"  # or 'compact': seqtopk.Cache's mode

    def __post_init__(self):
        for name, known in (("router", ("off", "topk", "seqtopk")), ("cache", ("exact", "compact"))):
            if getattr(self, name) not in known:
                raise ValueError(f"seqtopk: {name} is {getattr(self, name)!r}; it must be one of "
                                 f"{', '.join(map(repr, known))}")
        for name in ("min", "max"):
            value = getattr(self, name)
            if not (isinstance(value, int) and not isinstance(value, bool) or name == "max" and value == "k+2"):
                raise ValueError(f"seqtopk: {name} is {value!r}; it must be a number" + (" or 'k+2'" if name == "max" else ""))


def settings(given: Optional[dict[str, Any]] = None) -> Settings:
    """SEQTOPK_ROUTER, SEQTOPK_MIN, SEQTOPK_MAX and SEQTOPK_CACHE of the environment, and what an engine's own configuration
    gives instead of them."""
    words = {}
    for field in dataclasses.fields(Settings):
        text = os.environ.get("SEQTOPK_" + field.name.upper())
        if text:
            words[field.name] = int(text) if text.lstrip("-").isdigit() else text
    if given is not None and not isinstance(given, dict):
        raise ValueError(f"seqtopk: the configuration is {given!r}; it must be a dict such as {{'router': 'seqtopk'}}")
    names = [field.name for field in dataclasses.fields(Settings)]
    for name, value in (given or {}).items():
        if name not in names:
            raise ValueError(f"seqtopk: there is no setting {name!r}; there are {', '.join(names)}")
        words[name] = value
    return Settings(**words)


class Engine:
    """The routers of one model, and the past of its requests in them."""

    def __init__(self, how: Settings):
        self.settings = how
        self.routers: list[Router] = []
        self.lengths: list[int] = []  # of each slot: tokens that were routed
        self.batch: Optional[tuple[np.ndarray, np.ndarray]] = None  # of each row: slot, position

    def reserve(self, slots: int) -> None:
        """Requests are in slots 0 to slots - 1. Before the first forward."""
        self.lengths = [0] * slots

    def router(self, experts: int, words: dict[str, Any]) -> "Router":
        """Another layer's. words: seqtopk.route's, but for scope and bounds. Raises what these cannot be."""
        self.routers.append(Router(self, experts, words))
        return self.routers[-1]

    def forget(self, slot: int) -> None:
        """The slot is another request's from now on."""
        if self.lengths[slot]:
            self.lengths[slot] = 0
            for router in self.routers:
                if router.cache is not None:
                    router.cache.clear(slot)

    def begin(self, requests: list[tuple[Any, int, int, int]]) -> None:
        """The rows of the next forward, request after request: (name, slot, first position, rows)."""
        if self.settings.router != "seqtopk":
            return
        for name, slot, start, rows in requests:
            if start > self.lengths[slot]:
                raise ValueError(f"seqtopk: token {start} of request {name} comes after {self.lengths[slot]} that were routed: "
                                 "those between came out of a cache of prefixes. Start the engine without one")
        for name, slot, start, rows in requests:
            self.lengths[slot] = start + rows
        slots = np.array([slot for _, slot, _, _ in requests], np.int32)
        starts = np.array([start for _, _, start, _ in requests], np.int64)
        counts = np.array([rows for _, _, _, rows in requests], np.int64)
        if counts.max(initial=1) > 1:
            begins = starts - (counts.cumsum() - counts)  # so that a request's rows count on from its first position
            slots, starts = slots.repeat(counts), np.arange(counts.sum()) + begins.repeat(counts)
        self.batch = (slots, starts)

    def end(self) -> None:
        self.batch = None


class Router:
    """One layer's."""

    def __init__(self, engine: Engine, experts: int, words: dict[str, Any]):
        self.engine, self.experts, self.words = engine, experts, words
        self.bounds: dict[str, Any] = {}
        if engine.settings.router == "seqtopk":
            self.bounds = {"min": engine.settings.min, "max": engine.settings.max}
        scope = "online" if self.bounds else "token"
        self.width = _core.describe(experts, scope=scope, **words, **self.bounds)["width"]
        self.cache: Optional[_core.Cache] = None  # made when the first logits tell their type
        self.lists = {"want": "padded", "padding": "first", "width": self.width}
        self.topk = {"scope": "token", **words, **self.lists}
        self.name = str(next(_numbers))
        _routers[self.name] = self

    def route(self, logits: torch.Tensor, bias: Optional[torch.Tensor] = None) -> tuple[torch.Tensor, torch.Tensor]:
        """logits [T, E] -> weights float32, ids int32 [T, width], contiguous. Behind a token's own experts its first one again,
        at weight 0. A forward that is no request's, such as a warm-up, goes by TopK."""
        if torch.compiler.is_compiling():
            return torch.ops.seqtopk.serve(logits, bias, self.name)
        return self.run(logits, bias)

    def run(self, logits, bias):
        if logits.dtype not in DTYPES or logits.device.type != "cpu":
            raise TypeError(f"seqtopk routes {', '.join(DTYPES.values())} on the CPU, not {logits.dtype} on {logits.device}")
        if logits.requires_grad:
            logits = logits.detach()
        if logits.stride(-1) != 1:
            logits = logits.contiguous()
        if bias is not None:
            bias = bias.detach().float()
        batch = self.engine.batch
        if batch is None:
            routing = _core.route(logits, bias=bias, **self.topk)
            return routing.padded_weights, routing.padded_ids
        slots, places = batch
        rows, n = len(logits), len(places)
        if n > rows:
            raise RuntimeError(f"seqtopk: a router was handed {rows} rows of a forward of {n} tokens")
        if self.cache is None:
            self.cache = _core.Cache(1, len(self.engine.lengths), experts=self.experts, dtype=DTYPES[logits.dtype],
                                     mode=self.engine.settings.cache, **self.words, **self.bounds)
        step = self.cache.step(0, logits if n == rows else logits[:n], slots, places, bias=bias, **self.lists)
        weights, ids = step.padded_weights, step.padded_ids
        if n < rows:  # the engine's own padding
            weights, ids = (torch.cat([part, part.new_zeros(rows - n, self.width)]) for part in (weights, ids))
        return weights, ids


_numbers = itertools.count()
_routers: dict[str, Router] = {}


@torch.library.custom_op("seqtopk::serve", mutates_args=(), device_types="cpu")
def _serve(logits: torch.Tensor, bias: Optional[torch.Tensor], router: str) -> tuple[torch.Tensor, torch.Tensor]:
    return _routers[router].run(logits, bias)


@_serve.register_fake
def _(logits, bias, router):
    shape = (logits.shape[0], _routers[router].width)
    return logits.new_empty(shape, dtype=torch.float32), logits.new_empty(shape, dtype=torch.int32)
