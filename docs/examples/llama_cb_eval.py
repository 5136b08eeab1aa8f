# SPDX-License-Identifier: MIT
"""SeqTopK in llama.cpp as it is, by the callback that sees every node of its graph (llama_context_params.cb_eval).

    pip install llama-cpp-python gguf && pip install .
    python docs/examples/llama_cb_eval.py            # on small random models of OLMoE's and Qwen3-MoE's form

Runs of each model: stock; TopK, whose ids must be those that llama.cpp selects, and give its logits; SeqTopK, for which the model
is opened with U = K + 2 experts a token, those beyond a token's own at weight 0, beside the same without the callback. To see
what SeqTopK does to a model, not for speed: docs/engines/llama.cpp.md has what an engine does instead.
"""
import ctypes
import pathlib
import re
import sys
import tempfile

import gguf
import llama_cpp
import numpy as np
import seqtopk

TOKENS, VOCAB, LAYERS, WIDTH, HEADS, HIDDEN = 200, 300, 3, 128, 4, 64

ggml = ctypes.CDLL(str(next((pathlib.Path(llama_cpp.__file__).parent / "lib").glob("libggml-base.so*"))))
ggml.ggml_get_name.argtypes = ggml.ggml_get_data.argtypes = [ctypes.c_void_p]
ggml.ggml_get_name.restype, ggml.ggml_get_data.restype = ctypes.c_char_p, ctypes.c_void_p


class Tensor(ctypes.Structure):
    """How struct ggml_tensor begins."""

    _fields_ = [("type", ctypes.c_int), ("buffer", ctypes.c_void_p), ("ne", ctypes.c_int64 * 4), ("nb", ctypes.c_size_t * 4)]


def array_of(address, dtype):
    """The memory of a contiguous tensor, slowest dimension first."""
    tensor = Tensor.from_address(address)
    shape = tuple(tensor.ne)[::-1]
    data = (ctypes.c_byte * (int(np.prod(shape)) * 4)).from_address(ggml.ggml_get_data(address))
    return np.frombuffer(data, dtype).reshape(shape)


class Router:
    """Routes where llama.cpp has made the logits, and writes ids and zeros where it has made its own."""

    def __init__(self, **desc):
        self.desc = desc
        self.counts = []  # experts of each token, layer by layer
        self.others = 0  # places where llama.cpp had selected another expert

    def __call__(self, address, ask, _):
        name = re.fullmatch(r"ffn_moe_(logits|argsort|weights)-\d+", ggml.ggml_get_name(address).decode())
        if ask or not name:
            return bool(name)
        node = name[1]
        if node == "logits":  # [T, E]
            routing = seqtopk.route(array_of(address, np.float32)[0, 0], want=("padded",), padding="distinct", **self.desc)
            self.ids, self.weights = routing.padded_ids, routing.padded_weights
            self.counts.append(np.diff(routing.token_offsets))
        elif node == "argsort":  # [T, E], of which mul_mat_id reads the first U
            ids = array_of(address, np.int32)[0, 0][:, : self.ids.shape[1]]
            self.others += int((ids != self.ids).sum())
            ids[:] = self.ids
        else:  # [T, U, 1], before the norm
            array_of(address, np.float32)[0, ..., 0][self.weights == 0] = 0
        return True


def write_model(path, arch, experts, top_k):
    random = np.random.default_rng(7)
    out = gguf.GGUFWriter(path, arch)
    out.add_tokenizer_model("none")
    out.add_vocab_size(VOCAB)
    out.add_context_length(512)
    out.add_embedding_length(WIDTH)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(HIDDEN)
    out.add_expert_feed_forward_length(HIDDEN)
    out.add_head_count(HEADS)
    out.add_head_count_kv(HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_expert_count(experts)
    out.add_expert_used_count(top_k)

    def matrix(name, *shape, scale=1.0):
        values = random.standard_normal(shape, dtype=np.float32) * (scale / np.sqrt(shape[-1]))
        out.add_tensor(f"{name}.weight", values.astype(np.float32))

    def ones(name, size):
        out.add_tensor(f"{name}.weight", np.ones(size, np.float32))

    matrix("token_embd", VOCAB, WIDTH, scale=8)
    matrix("output", VOCAB, WIDTH)
    ones("output_norm", WIDTH)
    head = WIDTH if arch == "olmoe" else WIDTH // HEADS  # what a norm of queries spans
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_norm", "ffn_norm"):
            ones(f"{block}.{name}", WIDTH)
        for name in ("attn_q_norm", "attn_k_norm"):
            ones(f"{block}.{name}", head)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"{block}.{name}", WIDTH, WIDTH)
        matrix(f"{block}.ffn_gate_inp", experts, WIDTH, scale=1.5)
        matrix(f"{block}.ffn_gate_exps", experts, HIDDEN, WIDTH)
        matrix(f"{block}.ffn_up_exps", experts, HIDDEN, WIDTH)
        matrix(f"{block}.ffn_down_exps", experts, WIDTH, HIDDEN)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def logits_of(path, arch, used, router=None):
    """All tokens' logits [T, vocabulary], with `used` experts a token; of one ubatch, so that there is one budget."""
    overrides = (llama_cpp.llama_model_kv_override * 2)()  # the last one is empty
    overrides[0].tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT
    overrides[0].key = f"{arch}.expert_used_count".encode()
    overrides[0].value.val_i64 = used
    model_params = llama_cpp.llama_model_default_params()
    model_params.kv_overrides = overrides
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = 2
    params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
    if router:
        callback = llama_cpp.ggml_backend_sched_eval_callback(router)
        params.cb_eval = callback
    context = llama_cpp.llama_init_from_model(model, params)
    batch = llama_cpp.llama_batch_init(TOKENS, 0, 1)
    batch.n_tokens = TOKENS
    for i, token in enumerate(np.random.default_rng(3).integers(0, VOCAB, TOKENS)):
        batch.token[i], batch.pos[i], batch.logits[i] = int(token), i, 1
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
    if llama_cpp.llama_decode(context, batch):
        sys.exit("llama_decode failed")
    logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (TOKENS, VOCAB)).copy()
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return logits


@llama_cpp.llama_log_callback
def quiet(level, text, _):
    if level == 4:  # an error
        sys.stderr.write(text.decode())


def main():
    llama_cpp.llama_log_set(quiet, None)
    for arch, experts, k, norm in (("olmoe", 64, 8, "none"), ("qwen3moe", 128, 8, "sum")):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / f"{arch}.gguf"
            write_model(path, arch, experts, k)
            stock = logits_of(path, arch, k)
            topk = Router(k=k, scope="token", norm=norm, order="rank", width=k)
            same = np.abs(logits_of(path, arch, k, topk) - stock).max()
            seq = Router(k=k, scope="sequence", norm=norm, min=1, max="k+2", width=k + 2)
            routed = logits_of(path, arch, k + 2, seq)
            wide = np.abs(logits_of(path, arch, k + 2) - routed).max()
        counts = np.concatenate(seq.counts)
        print(f"{arch}: logits to {np.abs(stock).max():.2f}; "
              f"TopK by seqtopk: {topk.others} other ids, logits differ by {same:.1e}; "
              f"SeqTopK: {counts.sum()} pairs of a budget of {LAYERS * TOKENS * k}, {counts.min()} to {counts.max()} a token, "
              f"logits differ by {np.abs(routed - stock).max():.2f}, from TopK of {k + 2} by {wide:.2f}")
        if (topk.others or not same < 1e-4 or counts.sum() != LAYERS * TOKENS * k or wide < 1e-2
                or not counts.min() < k < counts.max()):
            sys.exit(f"{arch}: not what it must be")


main()
