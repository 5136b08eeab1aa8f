# SPDX-License-Identifier: MIT
"""SeqTopK in models of transformers.

    seqtopk.hf.patch(model, scope="sequence")             # trains, and runs whole sequences
    seqtopk.hf.patch(model, scope="online")               # generates: token m competes with those before it
    seqtopk.hf.unpatch(model)
"""

from .patch import patch, unpatch
from .routed import Patch
from .routers import FORMS

__all__ = ["FORMS", "Patch", "patch", "unpatch"]
