/* SPDX-License-Identifier: MIT */
/* A rank's call: its share of the sequences, what all ranks agree on, and the words that they add up. */
#ifndef SEQTOPK_SRC_TEAM_TEAM_H
#define SEQTOPK_SRC_TEAM_TEAM_H

#include "src/route/way.h"
#include "src/team/bracket.h"

#include <stdint.h>

/*
 * Words of each sequence in one all-reduce, and of them before its share. Of 8 bytes: with a message's header they fit into the ten
 * segments that TCP sends at once, so that an all-reduce is one delay. Counters of 64 bits: three rounds of them tell all keys apart.
 */
enum {
    SEQTOPK_TEAM_WORDS = 1792,
    SEQTOPK_TEAM_HEAD = 32,
    SEQTOPK_TEAM_COUNTS = SEQTOPK_TEAM_WORDS - SEQTOPK_TEAM_HEAD - 2,
    SEQTOPK_TEAM_MOST_RANKS = 32768
};
_Static_assert(INT64_C(1) * SEQTOPK_TEAM_COUNTS * SEQTOPK_TEAM_COUNTS * SEQTOPK_TEAM_COUNTS > INT64_C(1) << 32,
               "any bracket is one key after three rounds");

/* The head: what every rank tells with any words, so that none is left waiting for one that fails. */
enum {
    SEQTOPK_HEAD_STATUS = 0,       /* [16]: how many ranks have each status */
    SEQTOPK_HEAD_RANKS = 16,       /* the sum of rank + 1 of those that fail */
    SEQTOPK_HEAD_FINGERPRINT = 17, /* [8]: four numbers of 16 bits that must be the same, and their squares */
    SEQTOPK_HEAD_NEAR = 25         /* ranks that may have more pairs than their capacity */
};

/* What stands before the counts in a sequence's share. */
enum {
    SEQTOPK_SHARE_LIVE = 0,     /* rows that are neither masked nor dropped */
    SEQTOPK_SHARE_VARIANCE = 1, /* with the sample: of what it says of candidates above the cut */
    SEQTOPK_SHARE_ABOVE = 1,    /* later: keys above the bracket */
    SEQTOPK_SHARE_COUNTS = 2
};

typedef struct seqtopk_team_call {
    seqtopk_call call; /* as its only part, or its first, sees it */
    seqtopk_team team;
    int32_t threads;
    seqtopk_grid grid;
    uint64_t fingerprint;
    int64_t *words;            /* [SEQTOPK_TEAM_WORDS for each sequence] */
    seqtopk_bracket *brackets; /* [sequences] */
    float *lows;               /* [sequences] */
    int32_t *bases;            /* as many */
    uint32_t *widths;          /* as many */
    uint32_t *kept; /* [kept_most]: keys in brackets, of which kept_end are taken; in scratch that lists need later */
    int64_t kept_most, kept_end;
    int is_near, can_lack; /* whether a rank may lack capacity; whether one has less than is always enough */
} seqtopk_team_call;

/* This sequence's share of the words in the first two rounds; after them brackets say where their counts are. */
static inline int64_t *seqtopk_team_share(const seqtopk_team_call *t, int64_t s) {
    return t->words + s * SEQTOPK_TEAM_WORDS + SEQTOPK_TEAM_HEAD;
}

/* rank.c: adds this rank's sampled rows of sequence s to its share. */
void seqtopk_team_sample(const seqtopk_team_call *t, int64_t s);

/* What its keys in the bracket are, in the form that is asked for; how many, and how many are above. */
void seqtopk_team_count(seqtopk_team_call *t, int64_t s);
int64_t seqtopk_team_inside(const seqtopk_team_call *t, int64_t s);
int64_t seqtopk_team_above(const seqtopk_team_call *t, int64_t s);

/* Where this rank's run of sequence s is cut, once the bracket is found. */
seqtopk_cut seqtopk_team_cut(const seqtopk_team_call *t, int64_t s);

/* agree.c: what all ranks return. Fills and reads heads; collectives, of which 0 is success. */
int seqtopk_team_add(const seqtopk_team *team, int64_t *words, int64_t n);
int seqtopk_team_scan(const seqtopk_team *team, int64_t *words, int64_t n);
uint64_t seqtopk_team_fingerprint(const seqtopk_call *call);
void seqtopk_team_write_head(int64_t *words, const seqtopk_team *team, seqtopk_status status, uint64_t fingerprint);
seqtopk_status seqtopk_team_read_head(const int64_t *words, const seqtopk_team *team, seqtopk_status own,
                                      seqtopk_error *error);
/* After some rank has met a bad row, this one `token` or none (-1): the first of the batch, for all of them. */
seqtopk_status seqtopk_team_agree_on_token(const seqtopk_team *team, const seqtopk_call *call, int64_t *words,
                                           int64_t token, seqtopk_error *error);

#endif
