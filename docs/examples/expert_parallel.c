/* SPDX-License-Identifier: MIT */
/*
 * Experts on four ranks of two nodes, one of them on two ranks: which rows one rank sends to each, and how their results come
 * back to its tokens. The all-to-all itself, MPI_Alltoallv or torch.distributed.all_to_all_single, is copies of memory here.
 */
#include <seqtopk/seqtopk.h>

#include <stdio.h>

enum { TOKENS = 3, EXPERTS = 4, COPIES = 5, RANKS = 4, NODES = 2, PAIRS = 6 };

static int32_t scratch[64];

static void print(const char *what, const int32_t *values, int64_t n) {
    printf("%s", what);
    for (int64_t i = 0; i < n; i++)
        printf(" %d", values[i]);
    printf("\n");
}

int main(void) {
    /* What a route has listed: tokens 0 and 2 have experts 0 and 2 among others. */
    static const int32_t token_offsets[TOKENS + 1] = {0, 3, 4, 6}, expert_ids[PAIRS] = {0, 1, 2, 3, 0, 2};
    static const float weights[PAIRS] = {0.5f, 0.25f, 0.25f, 1.0f, 0.75f, 0.25f}, x[TOKENS] = {1, 2, 3};
    /* Expert 0 is at ranks 0 and 3; experts 1, 2 and 3 at ranks 1, 2 and 3. */
    static const int32_t copy_offsets[EXPERTS + 1] = {0, 2, 3, 4, 5}, rank_of[COPIES] = {0, 3, 1, 2, 3};
    static const int32_t node_of[COPIES] = {0, 1, 0, 1, 1}, expert_of[COPIES] = {0, 0, 1, 2, 3};
    int32_t counts[RANKS], tokens[PAIRS], copies[PAIRS], rows[PAIRS], offsets[PAIRS + 1], slots[PAIRS];
    int64_t n;

    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_exchange exchange = SEQTOPK_EXCHANGE_INIT;
    exchange.experts = EXPERTS;
    exchange.destinations = RANKS;
    exchange.copy_offsets = copy_offsets;
    exchange.places = rank_of;
    exchange.send_counts = counts;
    exchange.send_tokens = tokens;
    exchange.slot_copies = copies;
    exchange.slot_rows = rows;
    exchange.rows = &n;
    if (seqtopk_exchange_make(&exchange, TOKENS, token_offsets, expert_ids, scratch, sizeof scratch, &error))
        return fprintf(stderr, "%s\n", error.message), 1;
    print("rows to each rank:", counts, RANKS);
    print("whose they are:   ", tokens, n);

    /* Each expert multiplies by its number plus one; then each token adds up what comes back, in the places of its pairs. */
    float sent[PAIRS], y[TOKENS] = {0};
    for (int64_t row = 0; row < n; row++)
        sent[row] = x[tokens[row]];
    for (int32_t i = 0; i < PAIRS; i++)
        sent[rows[i]] *= (float)(expert_of[copies[i]] + 1);
    for (int32_t t = 0; t < TOKENS; t++)
        for (int32_t i = token_offsets[t]; i < token_offsets[t + 1]; i++)
            y[t] += weights[i] * sent[rows[i]];
    printf("combined:          %g %g %g\n", (double)y[0], (double)y[1], (double)y[2]);

    /* In a hierarchy a token goes once to each node, whatever it has there. */
    exchange.destinations = NODES;
    exchange.places = node_of;
    exchange.once = 1;
    exchange.row_offsets = offsets;
    exchange.row_slots = slots;
    if (seqtopk_exchange_make(&exchange, TOKENS, token_offsets, expert_ids, scratch, sizeof scratch, &error))
        return fprintf(stderr, "%s\n", error.message), 1;
    print("rows to each node:", counts, NODES);
    for (int64_t row = 0; row < n; row++) {
        printf("token %d there has experts", tokens[row]);
        for (int32_t i = offsets[row]; i < offsets[row + 1]; i++)
            printf(" %d", expert_ids[slots[i]]);
        printf("\n");
    }
    return 0;
}
