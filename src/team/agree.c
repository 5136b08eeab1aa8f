/* SPDX-License-Identifier: MIT */
/* What a team has in common: collectives, the problem that its ranks route, and what all of them return. */
#include "src/status.h"
#include "src/team/team.h"

int seqtopk_team_add(const seqtopk_team *team, int64_t *words, int64_t n) {
    return team->size == 1 ? 0 : team->allreduce_sum(team->context, words, n);
}

int seqtopk_team_scan(const seqtopk_team *team, int64_t *words, int64_t n) {
    if (team->size > 1)
        return team->exscan_sum(team->context, words, n);
    memset(words, 0, (size_t)n * sizeof *words);
    return 0;
}

/* ------------------------------------------------------------ fingerprint -- */

static uint64_t mix(uint64_t hash, const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* All that decides what is selected, but the rows: not what is wanted of it, nor kernels. */
uint64_t seqtopk_team_fingerprint(const seqtopk_call *call) {
    const seqtopk_desc *d = &call->plan->desc;
    const int32_t numbers[] = {d->experts,
                               d->top_k,
                               (int32_t)d->scope,
                               (int32_t)d->score,
                               d->min_experts,
                               d->max_experts,
                               d->groups,
                               d->group_top_k,
                               (int32_t)d->group_score,
                               d->group_n,
                               d->group_quota,
                               (int32_t)d->key_from,
                               d->null_experts,
                               d->shared_experts,
                               (int32_t)call->in.on_nonfinite,
                               call->in.given_ids != NULL,
                               call->in.bias != NULL};
    const float factors[] = {d->logit_scale, d->logit_softcap, d->shared_weight, d->min_p, d->top_p};
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    hash = mix(hash, numbers, sizeof numbers);
    hash = mix(hash, factors, sizeof factors);
    hash = mix(hash, &call->sequences, sizeof call->sequences);
    for (int32_t e = 0; call->in.bias && e < d->experts; e++) {
        const float bias = call->in.bias[e] + 0.0f;
        uint32_t word;
        memcpy(&word, &bias, sizeof word);
        hash = (hash ^ word) * UINT64_C(0x100000001b3);
    }
    return hash ^ hash >> 32;
}

/* ------------------------------------------------------------------- head -- */

void seqtopk_team_write_head(int64_t *words, const seqtopk_team *team, seqtopk_status status, uint64_t fingerprint) {
    memset(words, 0, SEQTOPK_TEAM_HEAD * sizeof *words);
    words[SEQTOPK_HEAD_STATUS + (int)status] = 1;
    words[SEQTOPK_HEAD_RANKS] = status ? team->rank + 1 : 0;
    for (int i = 0; i < 4; i++) {
        const int64_t piece = (int64_t)(fingerprint >> (16 * i) & 0xffff);
        words[SEQTOPK_HEAD_FINGERPRINT + i] = piece;
        words[SEQTOPK_HEAD_FINGERPRINT + 4 + i] = piece * piece;
    }
}

/* Numbers are all the same where the square of their sum is as many times the sum of their squares: else it is less. */
static int is_same(const int64_t *words, int64_t size) {
    int same = 1;
    for (int i = 0; i < 4; i++)
        same &= words[i] * words[i] == size * words[4 + i];
    return same;
}

seqtopk_status seqtopk_team_read_head(const int64_t *words, const seqtopk_team *team, seqtopk_status own,
                                      seqtopk_error *error) {
    const int64_t failed = team->size - words[SEQTOPK_HEAD_STATUS + SEQTOPK_OK];
    int status = SEQTOPK_OK + 1;
    if (failed == 0)
        return is_same(words + SEQTOPK_HEAD_FINGERPRINT, team->size)
                   ? SEQTOPK_OK
                   : seqtopk_fail(error, SEQTOPK_E_TEAM, -1,
                                  "the ranks of the team do not route the same problem: plans, bias, on_nonfinite, "
                                  "given_ids and the number of sequences must be the same on all");
    while (status < 15 && words[SEQTOPK_HEAD_STATUS + status] == 0)
        status++;
    if ((int)own == status)
        return own;
    const char *what = seqtopk_status_string((seqtopk_status)status);
    return failed == 1 ? seqtopk_fail(error, (seqtopk_status)status, -1, "rank %d of the team: %s",
                                      (int)words[SEQTOPK_HEAD_RANKS] - 1, what)
                       : seqtopk_fail(error, (seqtopk_status)status, -1, "%d ranks of the team: %s", (int)failed, what);
}

/* -------------------------------------------------------------- bad token -- */

static int64_t sequence_of(const seqtopk_call *call, int64_t token) {
    int64_t s = 0, first, last;
    for (seqtopk_call_sequence(call, s, &first, &last); token >= last;
         seqtopk_call_sequence(call, ++s, &first, &last)) {
    }
    return s;
}

seqtopk_status seqtopk_team_agree_on_token(const seqtopk_team *team, const seqtopk_call *call, int64_t *words,
                                           int64_t token, seqtopk_error *error) {
    const int64_t n = call->sequences, own = token < 0 ? n : sequence_of(call, token);
    int64_t first, last, before = 0, of[2], found = 0, s = 0;
    for (int64_t i = 0; i < n; i++) {
        seqtopk_call_sequence(call, i, &first, &last);
        words[i] = i == own;
        words[n + i] = last - first;
    }
    if (seqtopk_team_add(team, words, 2 * n))
        return seqtopk_fail(error, SEQTOPK_E_TEAM, -1, "an all-reduce of the team failed");
    for (; s < n - 1 && words[s] == 0; s++)
        before += words[n + s];
    seqtopk_call_sequence(call, s, &first, &last);
    of[0] = own == s;
    of[1] = last - first;
    if (seqtopk_team_scan(team, of, 2))
        return seqtopk_fail(error, SEQTOPK_E_TEAM, -1, "an exscan of the team failed");
    if (own == s && of[0] == 0)
        found = before + of[1] + token - first;
    if (seqtopk_team_add(team, &found, 1))
        return seqtopk_fail(error, SEQTOPK_E_TEAM, -1, "an all-reduce of the team failed");
    return seqtopk_fail(error, SEQTOPK_E_NONFINITE, found,
                        "token %lld has a NaN or +inf among its logits; mask the token or mend the router",
                        (long long)found);
}
