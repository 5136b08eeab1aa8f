# SPDX-License-Identifier: MIT
"""CPU routing for Mixture-of-Experts models: which experts work on which token, and with what weight.

    import numpy, seqtopk
    routing = seqtopk.route(logits, 8, min=1, max="k+2", norm="sum")
    routing.token_offsets, routing.expert_ids, routing.weights

SeqTopK (arXiv 2511.06494) selects experts per sequence, TopK per token. `seqtopk.torch` has what trains, `seqtopk.hf`
patches models of transformers, and `Cache` routes while a sequence grows. docs/python.md tells the rest.
"""

from ._core import Cache, Routing, __version__, describe, get_num_threads, presets, route, set_num_threads
from .errors import Error, NonfiniteError

__all__ = ["Cache", "Error", "NonfiniteError", "Routing", "__version__", "describe", "get_num_threads", "presets",
           "route", "set_num_threads"]
