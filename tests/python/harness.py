# SPDX-License-Identifier: MIT
"""What the checks of the Python package share: counting, and the oracle of tests/cli."""

import importlib
import os
import pathlib
import sys

sys.dont_write_bytecode = True  # the source tree stays as it is
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cli"))

# A build directory, whose extension stands beside the package's sources and not in them.
built = os.environ.get("SEQTOPK_PYTHON_BUILD")
if built:
    sys.path.insert(0, str(HERE.parents[1] / "src" / "python"))
    import importlib.machinery
    import importlib.util

    path = next(pathlib.Path(built).glob("_core.*so"))
    spec = importlib.util.spec_from_file_location(
        "seqtopk._core", path, loader=importlib.machinery.ExtensionFileLoader("seqtopk._core", str(path)))
    core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core)
    sys.modules["seqtopk._core"] = core

TRACE = HERE.parent / "data" / "trained-e64-k8-layer1.npy"
count = {"passed": 0, "failed": 0}


def need(*modules):
    """Imports what a check needs, or leaves it as skipped, with the reason."""
    try:
        return [importlib.import_module(name) for name in modules]
    except ImportError as missing:
        print(f"skipped: {missing}")
        sys.exit(77)


def check(fine, what):
    count["passed" if fine else "failed"] += 1
    if not fine:
        print("FAILED:", what, flush=True)


def raises(kind, words, call):
    """Whether call() raises exactly `kind`, with all of `words` in its message."""
    try:
        call()
    except Exception as error:
        fine = type(error) is kind and all(word in str(error) for word in words)
        check(fine, f"{type(error).__name__}: {error}; wanted {kind.__name__} with {words}")
        return error
    check(False, f"no error; wanted {kind.__name__} with {words}")
    return None


def report():
    print(f"{count['passed']} passed, {count['failed']} failed")
    sys.exit(1 if count["failed"] or not count["passed"] else 0)
