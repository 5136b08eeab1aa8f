#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every snippet of docs/python.md, as the one program that they are: check_docs.py [--keep FILE.svg]"""

import argparse
import contextlib
import io
import os
import pathlib
import re
import shutil
import tempfile

import harness
from harness import check

ROOT = harness.HERE.parents[1]
need = harness.need("torch", "transformers", "matplotlib", "numpy", "accelerate")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", help="where to put the plot that the page makes")
    options = parser.parse_args()
    page = (ROOT / "docs" / "python.md").read_text()
    snippets = [(m.start(), m.group(1)) for m in re.finditer(r"^```python\n(.*?)^```$", page, re.M | re.S)]
    names, said = {}, io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "docs").mkdir()
        shutil.copy(ROOT / "docs" / "python.md", pathlib.Path(folder) / "docs")
        os.chdir(folder)
        for at, snippet in snippets:
            line = page[:at].count("\n") + 2
            with contextlib.redirect_stdout(said):
                exec(compile("\n" * (line - 1) + snippet, "docs/python.md", "exec"), names)
            check(True, line)
        check(pathlib.Path("experts.svg").stat().st_size > 1000, "the plot")
        if options.keep:
            shutil.copy("experts.svg", ROOT / options.keep)
        os.chdir(ROOT)
    check(len(snippets) >= 8, f"{len(snippets)} snippets")
    check("token" in said.getvalue() and "loss" in said.getvalue(), said.getvalue())
    check(names["loss"].item() < 4.0, f"the model learns: loss {names['loss']:.2f}")
    check(names["ragged"].padded_ids.shape == (300, 10) and names["out"].shape == (2, 71), "shapes")
    check(all(int(c.min()) >= 1 and int(c.max()) <= 6 for c in names["patched"].counts), "bounds")
    check(names["cache"].length(1) == names["cache"].length(0) == 100, "the cache")
    # What the page says of the names it lists.
    import seqtopk.hf
    listed = set(re.findall(r"`(\w+)`", page[page.index("| `want`"):page.index("Every array is")]))
    check(all(hasattr(seqtopk.Routing, name) for name in listed - {"want", "moe_align_block_size"}), sorted(listed))
    print(said.getvalue())
    harness.report()


main()
