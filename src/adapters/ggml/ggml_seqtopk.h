/* SPDX-License-Identifier: MIT */
/*
 * Routing by seqtopk inside a ggml graph: for engines on ggml (llama.cpp) to compile, with ggml.h and seqtopk.h and nothing
 * else. What it takes the place of, between the router's product and the layer's output:
 *
 *     logits = ggml_mul_mat(ctx, gate, x);                             // [E, T]
 *     ggml_seqtopk_moe_route(ctx, state, logits, &params, &route, &error);
 *     rows = ggml_seqtopk_moe_gather(ctx, x, &route);                  // what mul_mat_id reads
 *     up = ggml_mul_mat_id(ctx, up_exps, rows, route.ids);             // and gate, activation, down
 *     y = ggml_seqtopk_moe_combine(ctx, down, &route);                 // [D, T]
 *
 * Ops are GGML_OP_CUSTOM: of the CPU backend alone. Shapes are in ggml's order, the fastest dimension first.
 *
 * The words of seqtopk.h: T tokens, E experts, K top_k; N = seqtopk_max_selected(plan, T) pairs, which is T * K, online
 * T * max_experts; U places of a padded row. D is the width of x.
 *
 * THREADS. Graphs are built by one thread each; any number of threads and contexts may build and compute with one state at
 * once (its plans are a list that only grows, by compare and swap; its status is atomic). Results are the same bits for
 * any number of threads and every team.
 *
 * ERRORS. What is wrong when a graph is built is returned. An op that is computed cannot fail, so that then every weight of
 * its tokens becomes NaN, ids stay in range, and the state keeps the first error until it is cleared. A row of logits with
 * NaN or +inf is no such error: it is routed as nothing, its padded weights are NaN, others are not touched, and it is counted.
 * In lists it has no pairs: the layer adds nothing to that token, whose residual has the NaN anyway.
 */
#ifndef GGML_SEQTOPK_H
#define GGML_SEQTOPK_H

#include <ggml.h>
#include <seqtopk/seqtopk.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What outlives graphs: plans and what went wrong. One for each model, or each context, as statuses are to be told apart. */
struct ggml_seqtopk;

/* NULL: no memory. */
struct ggml_seqtopk *ggml_seqtopk_new(void);

/* No graph that was built with it may be computed any more, and no seqtopk_cache of its plans be in use. NULL is fine. */
void ggml_seqtopk_free(struct ggml_seqtopk *state);

/* The state's plan for a desc, made when it is first asked for; the state's to free. NULL and `error` (may be NULL): why not.
 * For seqtopk_cache_desc.plan. */
const seqtopk_plan *ggml_seqtopk_plan(struct ggml_seqtopk *state, const seqtopk_desc *desc, seqtopk_error *error);

struct ggml_seqtopk_report {
    int64_t failures;    /* ops that could not route: all of their tokens' weights are NaN */
    int64_t rows;        /* rows of logits that were not finite, and dropped alone */
    seqtopk_error error; /* of the first failure */
};

/* What ops have met since the state was made or cleared: SEQTOPK_OK or the first failure's status. `report` may be NULL. After
 * ggml_backend_graph_compute or llama_decode. */
seqtopk_status ggml_seqtopk_status(const struct ggml_seqtopk *state, struct ggml_seqtopk_report *report);

/* Forgets it. No graph may be under way. */
void ggml_seqtopk_clear_status(struct ggml_seqtopk *state);

/* How ids and weights stand. */
enum ggml_seqtopk_layout {
    /* Pairs one after the other, gathered by token: no padding is computed; any max_experts. Where each token gets K, in token
     * scope and in decoding, that is rows of K, and nothing is gathered. */
    GGML_SEQTOPK_RAGGED = 0,
    GGML_SEQTOPK_PADDED_DISTINCT = 1, /* rows of U; the rest are experts that the token did not select, weight 0 */
    GGML_SEQTOPK_PADDED_MINUS_ONE = 2 /* rows of U; the rest are -1: for a mul_mat_id that skips those (ik_llama.cpp) */
};

/* How threads share a route. */
enum ggml_seqtopk_team {
    GGML_SEQTOPK_TEAM_AUTO = 0,   /* serial below 65536 logits or with one thread, else nodes */
    GGML_SEQTOPK_TEAM_SERIAL = 1, /* the first thread routes, in one node */
    GGML_SEQTOPK_TEAM_NODES = 2,  /* a node for each step: the graph waits between them */
    GGML_SEQTOPK_TEAM_BARRIER =
        3, /* one node, and OpenMP's barriers: compiled with the OpenMP that ggml has; else serial */
};

/* Begin with {0}; set desc by SEQTOPK_DESC_INIT. E of a warm-up and of bias is without desc.shared_experts. */
struct ggml_seqtopk_params {
    /* scope, E, K, bounds, score, norm ... With K = E (llama.cpp's warm-up) it is token scope whatever `scope` says, and no
     * cache is stepped. dtype is the logits'. tuning NULL: no file is looked for. */
    seqtopk_desc desc;
    enum ggml_seqtopk_layout layout;
    enum ggml_seqtopk_team team;
    int32_t
        n_threads; /* the most that may compute (llama.cpp: of n_threads and n_threads_batch the larger); 0: one. Threads
                            beyond it look on */
    int32_t n_seqs; /* with `seqs`: ids are 0 to n_seqs - 1 */
    int32_t
        longest_seq; /* 1: all tokens are of different sequences (decoding), which is TopK, and U = K; 0: not known */
    struct ggml_tensor *bias;    /* F32 [E], selection bias; NULL: none */
    struct ggml_tensor *factors; /* F32 [E], seqtopk_input.expert_factors; NULL: none */
    /* I32 [T], a graph input: whose each token is, in any order. Read when the graph is computed, so that a graph that is
     * used again takes other sequences. NULL: all are one sequence's, or sequence 0's of the cache. */
    struct ggml_tensor *seqs;
    /* Online. The cache outlives the graph; contexts have one each. `pos`: I32 [T], each token's place in its sequence, NULL:
     * each follows what there is. A failed step changes nothing in the cache. */
    seqtopk_cache *cache;
    struct ggml_tensor *pos;
    int32_t layer;
};

struct ggml_seqtopk_route {
    /* I32 [U, T]. Ragged: a list of N as [K, T]; online [max_experts, T], of a token alone [1, N]. */
    struct ggml_tensor *ids;
    struct ggml_tensor *weights; /* F32 [1, U, T]; ragged as ids */
    /* Ragged; NULL where nothing is gathered. I32 [N]: the token of each pair, which ascends, and I32 [T + 1]: the pairs of token t
     * are [offsets[t], offsets[t + 1]). */
    struct ggml_tensor *pair_tokens, *offsets;
};

/*
 * Adds a route to a graph. logits: F32, BF16 or F16 [E, T], of which rows may be strided. Ragged lists that a route leaves short
 * end with pairs of weight 0 that belong to no token; no expert is in ids more than T times, for which ggml has room. All four
 * tensors are views of one, which has the scratch too: 20 to 28 bytes for each of T * K and some 230 KiB for each thread.
 * E_NULL, E_VALUE, E_SHAPE name the parameter, E_UNSUPPORTED desc.null_experts; *route is all NULL then. Parameters may go when it
 * returns; state, bias and cache stay until no graph needs them.
 */
seqtopk_status ggml_seqtopk_moe_route(struct ggml_context *ctx, struct ggml_seqtopk *state, struct ggml_tensor *logits,
                                      const struct ggml_seqtopk_params *params, struct ggml_seqtopk_route *route,
                                      seqtopk_error *error);

/* x [D, T] as mul_mat_id wants it beside route->ids: [D, 1, T], or a row for each pair, of ids' shape. */
struct ggml_tensor *ggml_seqtopk_moe_gather(struct ggml_context *ctx, struct ggml_tensor *x,
                                            const struct ggml_seqtopk_route *route);

/*
 * y [D, T]: the sum of each token's experts' rows times their weights, in the order of its list. experts: F32 [D, U, T], ragged
 * of ids' shape, as mul_mat_id has made them. Rows of weight 0 are not read. Any selection's will do, stock TopK's too: with its
 * weights F32 [1, U, T] in route->weights and the rest NULL. In place of a multiplication and U - 1 additions.
 */
struct ggml_tensor *ggml_seqtopk_moe_combine(struct ggml_context *ctx, struct ggml_tensor *experts,
                                             const struct ggml_seqtopk_route *route);

/*
 * A cache does what llama.cpp's memory does: the calls of llama_memory_seq_rm, _cp, _keep, with their meaning of p0, p1 (-1: from
 * the beginning, to the end) and seq (-1: all, for rm). llama_memory_seq_add has none: what was behind the tokens that seq_rm has
 * taken out moved up with that, which is what a context shift says next. seq_div, and a seq_cp that does not begin at 0, have no
 * meaning for a router: E_UNSUPPORTED. E_NULL, E_VALUE and E_MEMORY as in seqtopk.h. No step of the sequences may be under way.
 */
seqtopk_status ggml_seqtopk_seq_rm(seqtopk_cache *cache, int32_t seq, int32_t p0, int32_t p1, seqtopk_error *error);
seqtopk_status ggml_seqtopk_seq_cp(seqtopk_cache *cache, int32_t from, int32_t to, int32_t p0, int32_t p1,
                                   seqtopk_error *error);
seqtopk_status ggml_seqtopk_seq_keep(seqtopk_cache *cache, int32_t seq, seqtopk_error *error);

#ifdef __cplusplus
}
#endif

#endif
