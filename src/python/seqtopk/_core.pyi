# SPDX-License-Identifier: MIT
# The types of the extension; what arguments mean is said by their docstrings, in src/python.
from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypedDict

class _DLPack(Protocol):
    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

class _Buffer(Protocol):
    def __buffer__(self, flags: int, /) -> memoryview: ...

Array = _DLPack | _Buffer
Integers = Array | Sequence[int]

Scope = Literal["sequence", "token", "online"]
Score = Literal["softmax", "sigmoid", "sqrtsoftplus", "logits"]
Norm = Literal["default", "none", "sum", "softmax"]
GroupScore = Literal["max", "top2", "topn"]
Order = Literal["expert", "rank", "given"]
Parity = Literal["hf", "vllm", "llama.cpp"]
Nonfinite = Literal["error", "drop", "mark"]
Padding = Literal["minus_one", "experts", "distinct", "first"]
Want = Literal["tokens", "experts", "padded", "padded64", "pairs", "dense", "lse", "margins"]

__version__: str

class Routing:
    """The lists of one call: NumPy arrays, or torch tensors where the logits were one."""

    @property
    def tokens(self) -> int: ...
    @property
    def experts(self) -> int: ...
    @property
    def selected(self) -> int: ...
    @property
    def dropped(self) -> tuple[int, int]: ...
    @property
    def token_offsets(self) -> Any: ...
    @property
    def expert_ids(self) -> Any: ...
    @property
    def weights(self) -> Any: ...
    @property
    def expert_offsets(self) -> Any: ...
    @property
    def expert_tokens(self) -> Any: ...
    @property
    def expert_slots(self) -> Any: ...
    @property
    def padded_ids(self) -> Any: ...
    @property
    def padded_ids64(self) -> Any: ...
    @property
    def padded_weights(self) -> Any: ...
    @property
    def pair_tokens(self) -> Any: ...
    @property
    def pair_places(self) -> Any: ...
    @property
    def routing_map(self) -> Any: ...
    @property
    def routing_probs(self) -> Any: ...
    @property
    def row_lse(self) -> Any: ...
    @property
    def sequence_margins(self) -> Any: ...
    @property
    def block_slots(self) -> Any: ...
    @property
    def block_experts(self) -> Any: ...

def route(
    logits: Array,
    k: int | None = None,
    *,
    scope: Scope = "sequence",
    score: Score = "softmax",
    norm: Norm = "default",
    norm_eps: float = 0.0,
    norm_floor: float = 0.0,
    scale: float = 1.0,
    norm_skip_top1: bool = False,
    min: int = 0,
    max: int | str | None = None,
    groups: int | None = None,
    group_top_k: int | None = None,
    group_score: GroupScore = "max",
    group_n: int | None = None,
    order: Order = "expert",
    min_p: float | None = None,
    top_p: float | None = None,
    preset: str | None = None,
    parity: Parity = "hf",
    cu_seqlens: Integers | None = None,
    token_seq: Integers | None = None,
    given_ids: Integers | None = None,
    given_offsets: Integers | None = None,
    token_mask: Array | None = None,
    bias: Array | Sequence[float] | None = None,
    expert_factors: Array | Sequence[float] | None = None,
    on_nonfinite: Nonfinite = "error",
    want: Want | Sequence[Want] = "tokens",
    padding: Padding = "minus_one",
    width: int | None = None,
    block_size: int | None = None,
    team: Any = None,
) -> Routing: ...
def describe(experts: int | None = None, k: int | None = None, **options: Any) -> dict[str, Any]: ...
def set_num_threads(threads: int, /) -> None: ...
def get_num_threads() -> int: ...
def presets() -> list[str]: ...

class CacheStats(TypedDict):
    tokens: int
    budget: int
    pairs: int
    bytes: int
    shared_bytes: int
    doubtful: int
    most_read: int

class Cache:
    """SeqTopK while sequences grow."""

    def __init__(
        self,
        layers: int = 1,
        sequences: int = 1,
        *,
        experts: int | None = None,
        k: int | None = None,
        scope: Literal["online"] = "online",
        score: Score = "softmax",
        norm: Norm = "default",
        norm_eps: float = 0.0,
        norm_floor: float = 0.0,
        scale: float = 1.0,
        norm_skip_top1: bool = False,
        min: int = 0,
        max: int | str | None = None,
        groups: int | None = None,
        group_top_k: int | None = None,
        group_score: GroupScore = "max",
        group_n: int | None = None,
        order: Order = "expert",
        preset: str | None = None,
        parity: Parity = "hf",
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        mode: Literal["exact", "threshold", "compact"] = "exact",
        max_tokens: int = 0,
        max_bytes: int = 0,
        threshold: float = 0.0,
        is_ledger: bool = False,
        rollback: int = 0,
    ) -> None: ...
    @property
    def layers(self) -> int: ...
    @property
    def sequences(self) -> int: ...
    def step(
        self,
        layer: int,
        logits: Array,
        sequences: Integers | None = None,
        positions: Integers | None = None,
        *,
        take: Literal["causal", "joint"] = "causal",
        token_mask: Array | None = None,
        bias: Array | Sequence[float] | None = None,
        expert_factors: Array | Sequence[float] | None = None,
        on_nonfinite: Nonfinite = "error",
        want: Want | Sequence[Want] = "tokens",
        padding: Padding = "minus_one",
        width: int | None = None,
        block_size: int | None = None,
    ) -> Routing: ...
    def length(self, sequence: int = 0, layer: int = 0, /) -> int: ...
    def truncate(self, sequence: int, tokens: int, /) -> None: ...
    def remove(self, sequence: int, start: int, stop: int, /) -> None: ...
    def copy(self, to: int, source: int, tokens: int = -1, /) -> None: ...
    def clear(self, sequence: int = -1, /) -> None: ...
    def keep(self, sequence: int, /) -> None: ...
    def reorder(self, parents: Integers, /) -> None: ...
    def save(self, sequence: int, start: int, stop: int, /) -> bytes: ...
    def load(self, sequence: int, blob: bytes, /) -> None: ...
    def stats(self, layer: int = -1, sequence: int = -1, /) -> CacheStats: ...
