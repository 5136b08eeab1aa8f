/* SPDX-License-Identifier: MIT */
/* What a seqtopk_desc may say. */
#include "src/abi.h"
#include "src/plan/plan.h"
#include "src/status.h"

#include <math.h>

/* Whether a number is one of its enum. Every name stands here, so that the compiler tells where a new one is missing. */
static int is_scope(seqtopk_scope scope) {
    switch (scope) {
    case SEQTOPK_SCOPE_SEQUENCE:
    case SEQTOPK_SCOPE_TOKEN:
    case SEQTOPK_SCOPE_ONLINE: return 1;
    }
    return 0;
}

static int is_score(seqtopk_score score) {
    switch (score) {
    case SEQTOPK_SCORE_SOFTMAX:
    case SEQTOPK_SCORE_SIGMOID:
    case SEQTOPK_SCORE_SQRTSOFTPLUS:
    case SEQTOPK_SCORE_LOGITS: return 1;
    }
    return 0;
}

static int is_norm(seqtopk_norm norm) {
    switch (norm) {
    case SEQTOPK_NORM_DEFAULT:
    case SEQTOPK_NORM_NONE:
    case SEQTOPK_NORM_SUM:
    case SEQTOPK_NORM_SOFTMAX:
    case SEQTOPK_NORM_SPARSEMIXER: return 1;
    }
    return 0;
}

static int is_group_score(seqtopk_group_score group_score) {
    switch (group_score) {
    case SEQTOPK_GROUP_MAX:
    case SEQTOPK_GROUP_TOP2:
    case SEQTOPK_GROUP_TOPN: return 1;
    }
    return 0;
}

static int is_dtype(seqtopk_dtype dtype) {
    switch (dtype) {
    case SEQTOPK_DTYPE_F32:
    case SEQTOPK_DTYPE_BF16:
    case SEQTOPK_DTYPE_F16: return 1;
    }
    return 0;
}

static int is_key_from(seqtopk_key_from key_from) {
    switch (key_from) {
    case SEQTOPK_KEY_FROM_SCORE:
    case SEQTOPK_KEY_FROM_LOGIT: return 1;
    }
    return 0;
}

static int is_order(seqtopk_order order) {
    switch (order) {
    case SEQTOPK_ORDER_EXPERT:
    case SEQTOPK_ORDER_RANK:
    case SEQTOPK_ORDER_GIVEN: return 1;
    }
    return 0;
}

static seqtopk_status check_enums(const seqtopk_desc *d, seqtopk_error *error) {
    if (!is_scope(d->scope))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.scope is %d, which is no seqtopk_scope", (int)d->scope);
    if (!is_score(d->score))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.score is %d, which is no seqtopk_score", (int)d->score);
    if (!is_norm(d->norm))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.norm is %d, which is no seqtopk_norm", (int)d->norm);
    if (!is_group_score(d->group_score))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.group_score is %d, which is no seqtopk_group_score",
                            (int)d->group_score);
    if (!is_dtype(d->dtype))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.dtype is %d, which is no seqtopk_dtype", (int)d->dtype);
    if (!is_order(d->order))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.order is %d, which is no seqtopk_order", (int)d->order);
    if (!is_key_from(d->key_from))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.key_from is %d, which is no seqtopk_key_from",
                            (int)d->key_from);
    return SEQTOPK_OK;
}

/* The last of the experts, which are not dispatched or do not compete: from here on `experts` are those that compete. */
static seqtopk_status resolve_last(seqtopk_desc *d, seqtopk_error *error) {
    if (d->experts < 1 || d->experts > SEQTOPK_MAX_EXPERTS)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.experts is %d; it must be 1 to %d", (int)d->experts,
                            SEQTOPK_MAX_EXPERTS);
    if (d->null_experts < 0 || d->null_experts >= d->experts)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.null_experts is %d; it must be 0 to experts - 1 (%d)",
                            (int)d->null_experts, (int)d->experts - 1);
    if (d->shared_experts < 0 || d->shared_experts >= d->experts)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.shared_experts is %d; it must be 0 to experts - 1 (%d)",
                            (int)d->shared_experts, (int)d->experts - 1);
    if (d->null_experts && d->shared_experts)
        return seqtopk_fail(error, SEQTOPK_E_UNSUPPORTED, -1,
                            "desc.null_experts and shared_experts: both are the last of the experts, so ask for one of "
                            "them");
    if (!isfinite(d->shared_weight) || (d->shared_weight != 0.0f && !d->shared_experts))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "desc.shared_weight is %g; it must be finite, and 0 without shared_experts",
                            (double)d->shared_weight);
    if (d->shared_experts && d->shared_weight == 0.0f && d->score == SEQTOPK_SCORE_SOFTMAX)
        return seqtopk_fail(error, SEQTOPK_E_UNSUPPORTED, -1,
                            "desc.shared_experts with SEQTOPK_SCORE_SOFTMAX: over which experts a shared one's softmax "
                            "goes is not defined; set shared_weight or take another score");
    d->experts -= d->shared_experts;
    return SEQTOPK_OK;
}

static seqtopk_status check_sizes(const seqtopk_desc *d, seqtopk_error *error) {
    if (d->top_k < 1 || d->top_k > d->experts)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "desc.top_k is %d; it must be 1 to the experts that compete (%d)", (int)d->top_k,
                            (int)d->experts);
    if (d->scope == SEQTOPK_SCOPE_TOKEN && ((d->min_experts && !seqtopk_prunes(d)) || d->max_experts))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "desc.min_experts and max_experts bound sequence scope; in token scope leave them 0");
    if (d->min_experts < 0 || d->min_experts > d->top_k)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.min_experts is %d; it must be 0 to top_k (%d)",
                            (int)d->min_experts, (int)d->top_k);
    if (d->max_experts < 0 || (d->max_experts && d->max_experts < d->min_experts))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "desc.max_experts is %d; it must be 0 (no bound) or at least 1 and min_experts (%d)",
                            (int)d->max_experts, (int)d->min_experts);
    if (d->tokens < 0 || d->tokens > INT32_MAX)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.tokens is %lld; it is reserved and must be 0 to 2^31-1",
                            (long long)d->tokens);
    if (d->threads < 0 || d->threads > SEQTOPK_MAX_PARTS)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.threads is %d; it must be 0 (one) to %d", (int)d->threads,
                            SEQTOPK_MAX_PARTS);
    return SEQTOPK_OK;
}

static seqtopk_status check_pruning(const seqtopk_desc *d, seqtopk_error *error) {
    if (!(d->min_p >= 0.0f && d->min_p <= 1.0f) || !(d->top_p >= 0.0f && d->top_p <= 1.0f))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.min_p is %g and top_p %g; both must be 0 (none) to 1",
                            (double)d->min_p, (double)d->top_p);
    if (seqtopk_prunes(d) && d->scope != SEQTOPK_SCOPE_TOKEN)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "desc.min_p and top_p are for token scope: sequence scope gives each token its own number "
                            "by itself");
    if (seqtopk_prunes(d) && d->score == SEQTOPK_SCORE_LOGITS)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "desc.min_p and top_p compare scores that are not negative: not SEQTOPK_SCORE_LOGITS");
    if (seqtopk_prunes(d) && d->key_from == SEQTOPK_KEY_FROM_LOGIT)
        return seqtopk_fail(
            error, SEQTOPK_E_VALUE, -1,
            "desc.key_from is SEQTOPK_KEY_FROM_LOGIT with min_p or top_p, which compare scores: without a "
            "bias both select the same experts, so leave it 0");
    if (d->top_p > 0.0f && d->score != SEQTOPK_SCORE_SOFTMAX)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "desc.top_p adds up probabilities: it needs SEQTOPK_SCORE_SOFTMAX (min_p does not)");
    return SEQTOPK_OK;
}

static seqtopk_status check_weights(const seqtopk_desc *d, seqtopk_error *error) {
    if (!(d->norm_eps >= 0.0f) || isinf(d->norm_eps))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.norm_eps is %g; it must be finite and not negative",
                            (double)d->norm_eps);
    if (!(d->norm_floor >= 0.0f) || isinf(d->norm_floor))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.norm_floor is %g; it must be finite and not negative",
                            (double)d->norm_floor);
    if (!(d->norm_jitter >= 0.0f) || isinf(d->norm_jitter))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.norm_jitter is %g; it must be finite and not negative",
                            (double)d->norm_jitter);
    if (d->norm == SEQTOPK_NORM_SPARSEMIXER && d->score != SEQTOPK_SCORE_LOGITS)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "desc.norm is SEQTOPK_NORM_SPARSEMIXER, which takes softmaxes of logits: set score to "
                            "SEQTOPK_SCORE_LOGITS");
    if (d->norm == SEQTOPK_NORM_SPARSEMIXER && (d->groups > 1 || (d->shared_experts && d->shared_weight == 0.0f)))
        return seqtopk_fail(
            error, SEQTOPK_E_UNSUPPORTED, -1,
            "desc.norm is SEQTOPK_NORM_SPARSEMIXER, which weighs the best of all logits: without groups, and "
            "shared experts need a shared_weight");
    if (!isfinite(d->scale))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.scale is %g; it must be finite", (double)d->scale);
    return SEQTOPK_OK;
}

static seqtopk_status check_logits(const seqtopk_desc *d, seqtopk_error *error) {
    const float scale = d->logit_scale != 0.0f ? d->logit_scale : 1.0f;
    if (!(scale > 0.0f) || !isnormal(scale))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "desc.logit_scale is %g; it must be 0 (for 1) or a normal number above 0",
                            (double)d->logit_scale);
    if (d->logit_softcap != 0.0f && (!(d->logit_softcap > 0.0f) || !isnormal(d->logit_softcap)))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "desc.logit_softcap is %g; it must be 0 (none) or a normal number above 0",
                            (double)d->logit_softcap);
    if (d->logit_softcap != 0.0f && !isnormal(scale / d->logit_softcap))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "desc.logit_scale is %g and logit_softcap %g: float32 cannot hold their quotient",
                            (double)scale, (double)d->logit_softcap);
    return SEQTOPK_OK;
}

static seqtopk_status resolve_groups(seqtopk_desc *d, seqtopk_error *error) {
    if (d->groups < 0 || d->groups > d->experts)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.groups is %d; it must be 0 (none) to experts (%d)",
                            (int)d->groups, (int)d->experts);
    if (d->groups <= 1) {
        if (d->group_quota)
            return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                                "desc.group_quota is %d without groups: set desc.groups too", (int)d->group_quota);
        if (d->group_top_k > 1 || d->group_top_k < 0)
            return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                                "desc.group_top_k is %d without groups: set desc.groups too", (int)d->group_top_k);
        d->groups = 1;
        d->group_top_k = 1;
        return SEQTOPK_OK;
    }
    if (d->experts % d->groups)
        return seqtopk_fail(error, SEQTOPK_E_SHAPE, -1, "desc.groups is %d, which does not divide experts (%d)",
                            (int)d->groups, (int)d->experts);
    if (d->group_quota && d->group_top_k == 0)
        d->group_top_k = d->groups;
    if (d->group_top_k < 1 || d->group_top_k > d->groups)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "desc.group_top_k is %d; it must be 1 to groups (%d)",
                            (int)d->group_top_k, (int)d->groups);
    const int32_t size = d->experts / d->groups;
    if (d->group_quota < 0 || d->group_quota > size)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "desc.group_quota is %d; it must be 0 (none) to the experts of a group (%d)",
                            (int)d->group_quota, (int)size);
    if (d->group_quota && d->top_k > d->group_top_k * d->group_quota)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "desc.top_k is %d, but %d groups with a group_quota of %d give a token %d experts at most",
                            (int)d->top_k, (int)d->group_top_k, (int)d->group_quota,
                            (int)(d->group_top_k * d->group_quota));
    switch (d->group_score) {
    case SEQTOPK_GROUP_MAX: d->group_n = 1; break;
    case SEQTOPK_GROUP_TOP2: d->group_n = 2; break;
    case SEQTOPK_GROUP_TOPN:
        if (d->group_n == 0)
            d->group_n = d->top_k / d->group_top_k > 1 ? d->top_k / d->group_top_k : 1;
        break;
    }
    if (d->group_n < 1 || d->group_n > size)
        return seqtopk_fail(
            error, SEQTOPK_E_VALUE, -1,
            "a group's score adds up %d experts, but a group has %d: set desc.group_n or another group_score",
            (int)d->group_n, (int)size);
    return SEQTOPK_OK;
}

seqtopk_status seqtopk_desc_resolve(seqtopk_desc *resolved, const seqtopk_desc *desc, seqtopk_error *error) {
    seqtopk_status status = seqtopk_take_struct(resolved, sizeof *resolved, SEQTOPK_FIRST_desc, desc, "desc", error);
    if (!status)
        status = check_enums(resolved, error);
    if (!status)
        status = resolve_last(resolved, error);
    if (!status)
        status = check_sizes(resolved, error);
    if (!status)
        status = check_weights(resolved, error);
    if (!status)
        status = check_pruning(resolved, error);
    if (!status)
        status = check_logits(resolved, error);
    if (!status)
        status = resolve_groups(resolved, error);
    if (status)
        return status;
    if (resolved->norm == SEQTOPK_NORM_DEFAULT)
        resolved->norm = resolved->score == SEQTOPK_SCORE_LOGITS ? SEQTOPK_NORM_SOFTMAX : SEQTOPK_NORM_NONE;
    if (resolved->norm == SEQTOPK_NORM_SUM && resolved->norm_skip_top1 && resolved->top_k == 1)
        resolved->norm = SEQTOPK_NORM_NONE;
    if (resolved->logit_scale == 0.0f)
        resolved->logit_scale = 1.0f;
    if (resolved->norm_jitter == 0.0f)
        resolved->norm_jitter = 0.01f;
    if (resolved->scale == 0.0f)
        resolved->scale = 1.0f;
    if (resolved->max_experts == 0 || resolved->max_experts > resolved->experts)
        resolved->max_experts = resolved->experts;
    if (resolved->group_quota && resolved->max_experts > resolved->group_top_k * resolved->group_quota)
        resolved->max_experts = resolved->group_top_k * resolved->group_quota;
    return SEQTOPK_OK;
}
