#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Arrays of other libraries, read where they are, give the bits that NumPy's give: check_arrays.py

Each library is tried if it is there: torch, JAX, ml_dtypes (NumPy's bfloat16). Without any of them it is skipped.
"""

import importlib
import sys

import harness
from harness import check, raises
import numpy as np
import seqtopk


def bfloat16(x):
    """float32 with what bfloat16 keeps."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


LOGITS = np.random.default_rng(4).standard_normal((70, 32), dtype=np.float32)
WANT = {"float32": LOGITS, "bfloat16": bfloat16(LOGITS), "float16": LOGITS.astype(np.float16).astype(np.float32)}


def same(name, array, dtype, **words):
    got, want = seqtopk.route(array, 4, **words), seqtopk.route(WANT[dtype], 4, **words)
    check(np.array_equal(np.asarray(got.expert_ids), want.expert_ids) and
          np.asarray(got.weights).tobytes() == want.weights.tobytes(), f"{name}, {dtype}")
    return got


def check_torch(torch):
    for dtype in WANT:
        x = torch.from_numpy(LOGITS).to(getattr(torch, dtype))
        got = same("torch", x, dtype)
        check(isinstance(got.weights, torch.Tensor) and got.weights.dtype == torch.float32, "results are tensors")
        same("torch, rows apart", torch.cat([x, x], 1)[:, 32:], dtype)
        same("torch, with a gradient", x.clone().requires_grad_(), dtype)
    class Old(torch.Tensor):
        """As tensors were before they offered DLPack's table of functions."""

        __dlpack_c_exchange_api__ = None

    got = same("torch by capsules", torch.from_numpy(LOGITS).as_subclass(Old), "float32")
    check(isinstance(got.weights, torch.Tensor), "results of capsules are tensors")
    raises(TypeError, ["logits", "gradient"], lambda: seqtopk.route(torch.zeros(3, 3).as_subclass(Old).requires_grad_(), 1))
    weights = [seqtopk.route(torch.from_numpy(LOGITS), 4).weights for _ in range(100)]
    check(all(torch.equal(w, weights[0]) for w in weights), "tensors outlive their Routing")
    r = seqtopk.route(torch.from_numpy(LOGITS), 4, max=6, want=("padded64", "dense"))
    check(r.padded_ids64.shape == (70, 6) and r.routing_map.dtype == torch.bool, "shapes and types")
    check(torch.equal(r.routing_map.sum(1), r.token_offsets.diff()), "dense tensors")
    raises(TypeError, ["logits", "meta"], lambda: seqtopk.route(torch.zeros(3, 3, device="meta"), 1))
    raises(TypeError, ["logits"], lambda: seqtopk.route(torch.zeros(3, 3).to_sparse(), 1))
    raises(ValueError, ["logits", "contiguous"], lambda: seqtopk.route(torch.zeros(3, 3).t(), 1))
    mask = torch.arange(70) % 3 > 0
    got = seqtopk.route(LOGITS, 4, token_mask=mask, cu_seqlens=torch.tensor([0, 30, 70]))
    check(isinstance(got.weights, np.ndarray) and got.selected == 4 * int(mask.sum()), "tensors beside an array")


def check_jax(jax):
    for dtype in WANT:
        x = jax.numpy.asarray(LOGITS).astype(dtype)
        got = same("JAX", x, dtype)
        check(isinstance(got.weights, np.ndarray), "results are NumPy's")


def check_ml_dtypes(ml_dtypes):
    same("ml_dtypes", LOGITS.astype(ml_dtypes.bfloat16), "bfloat16")
    same("ml_dtypes, rows apart", np.repeat(LOGITS, 2, 0).astype(ml_dtypes.bfloat16)[::2], "bfloat16")
    raises(TypeError, ["logits"], lambda: seqtopk.route(LOGITS.astype(ml_dtypes.float8_e4m3fn), 4))


def main():
    tried = 0
    for name, part in (("torch", check_torch), ("jax", check_jax), ("ml_dtypes", check_ml_dtypes)):
        try:
            module = importlib.import_module(name)
        except ImportError as missing:
            print(f"skipped: {missing}")
            continue
        tried += 1
        part(module)
    if not tried:
        sys.exit(77)
    harness.report()


main()
