/* SPDX-License-Identifier: MIT */
#include <mpi.h>
#define SEQTOPK_MPI_COMM
#include "seqtopk_mpi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIRECT_RANKS = 16, PIECE = 1 << 30, TAG_BYTES = 1, TAG_WORDS = 2, TAG_FOLD = 3 };

typedef struct seqtopk_mpi {
    MPI_Comm comm;
    int rank, size;
    int finalises;  /* MPI was initialised here */
    int64_t *space; /* of words from other ranks */
    int64_t words;  /* that it has room for */
} seqtopk_mpi;

static seqtopk_status fail(seqtopk_error *error, seqtopk_status status, const char *what) {
    if (error) {
        error->status = status;
        error->token = -1;
        snprintf(error->message, sizeof error->message, "%s", what);
    }
    return status;
}

/* ------------------------------------------------------------- collectives -- */

/* Not MPI_Allreduce and MPI_Exscan: for such sizes Open MPI's go round a ring or down a line, a message's delay for each rank,
 * and delay is what these cost. */

static int make_space(seqtopk_mpi *m, int64_t words) {
    if (words <= m->words)
        return 0;
    int64_t *space = realloc(m->space, (size_t)words * sizeof *space);
    if (!space)
        return -1;
    m->space = space;
    m->words = words;
    return 0;
}

static void add(int64_t *to, const int64_t *from, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

/*
 * A few ranks: each sends its words to those that need them, all at once, which is one message's delay. Needed are those of all
 * others, or of lower ranks alone.
 */
static int add_direct(seqtopk_mpi *m, int64_t *words, int n, int only_lower) {
    MPI_Request requests[2 * DIRECT_RANKS];
    int count = 0, status = make_space(m, (int64_t)m->size * n);
    for (int r = 0; r < m->size && !status; r++)
        if (r != m->rank && (!only_lower || r < m->rank))
            status = MPI_Irecv(m->space + (int64_t)r * n, n, MPI_INT64_T, r, TAG_WORDS, m->comm, &requests[count++]);
    for (int r = 0; r < m->size && !status; r++)
        if (r != m->rank && (!only_lower || r > m->rank))
            status = MPI_Isend(words, n, MPI_INT64_T, r, TAG_WORDS, m->comm, &requests[count++]);
    if (status || (status = MPI_Waitall(count, requests, MPI_STATUSES_IGNORE)) != MPI_SUCCESS)
        return status;
    if (only_lower)
        memset(words, 0, (size_t)n * sizeof *words);
    for (int r = 0; r < (only_lower ? m->rank : m->size); r++)
        if (r != m->rank)
            add(words, m->space + (int64_t)r * n, n);
    return 0;
}

/* Many ranks: partners at distances of 1, 2, 4 ..; those beyond a power of two have one of the others add for them. */
static int add_doubling(seqtopk_mpi *m, int64_t *words, int n) {
    int power = 1, status = make_space(m, n);
    while (2 * power <= m->size)
        power *= 2;
    if (m->rank >= power) {
        if (!status)
            status = MPI_Send(words, n, MPI_INT64_T, m->rank - power, TAG_FOLD, m->comm);
        return status ? status : MPI_Recv(words, n, MPI_INT64_T, m->rank - power, TAG_FOLD, m->comm, MPI_STATUS_IGNORE);
    }
    const int has_guest = m->rank + power < m->size;
    if (has_guest && !status) {
        status = MPI_Recv(m->space, n, MPI_INT64_T, m->rank + power, TAG_FOLD, m->comm, MPI_STATUS_IGNORE);
        if (!status)
            add(words, m->space, n);
    }
    for (int distance = 1; distance < power && !status; distance *= 2) {
        status = MPI_Sendrecv(words, n, MPI_INT64_T, m->rank ^ distance, TAG_WORDS, m->space, n, MPI_INT64_T,
                              m->rank ^ distance, TAG_WORDS, m->comm, MPI_STATUS_IGNORE);
        if (!status)
            add(words, m->space, n);
    }
    return status || !has_guest ? status : MPI_Send(words, n, MPI_INT64_T, m->rank + power, TAG_FOLD, m->comm);
}

/* So many words at a time that counts stay an int, and space small. */
enum { AT_ONCE = 1 << 20 };

static int allreduce(void *context, int64_t *words, int64_t n) {
    seqtopk_mpi *m = context;
    int status = 0;
    for (int64_t at = 0; at < n && !status; at += AT_ONCE) {
        const int some = n - at > AT_ONCE ? AT_ONCE : (int)(n - at);
        status = m->size <= DIRECT_RANKS ? add_direct(m, words + at, some, 0) : add_doubling(m, words + at, some);
    }
    return status;
}

static int exscan(void *context, int64_t *words, int64_t n) {
    seqtopk_mpi *m = context;
    int status = 0;
    for (int64_t at = 0; at < n && !status; at += AT_ONCE) {
        const int some = n - at > AT_ONCE ? AT_ONCE : (int)(n - at);
        status = m->size <= DIRECT_RANKS ? add_direct(m, words + at, some, 1)
                                         : MPI_Exscan(MPI_IN_PLACE, words + at, some, MPI_INT64_T, MPI_SUM, m->comm);
    }
    if (m->rank == 0) /* which MPI leaves as it was */
        memset(words, 0, (size_t)n * sizeof *words);
    return status;
}

/* ------------------------------------------------------------------- teams -- */

static seqtopk_status make(seqtopk_team *team, MPI_Comm comm, int finalises, seqtopk_error *error) {
    int rank, size;
    memset(team, 0, sizeof *team);
    team->struct_size = sizeof *team;
    if (MPI_Comm_rank(comm, &rank) != MPI_SUCCESS || MPI_Comm_size(comm, &size) != MPI_SUCCESS)
        return fail(error, SEQTOPK_E_TEAM, "the communicator has no ranks");
    if (size > 32768)
        return fail(error, SEQTOPK_E_VALUE, "the communicator has more than 32768 ranks");
    seqtopk_mpi *m = malloc(sizeof *m);
    if (!m)
        return fail(error, SEQTOPK_E_MEMORY, "no memory for a team");
    *m = (seqtopk_mpi){.rank = rank, .size = size, .finalises = finalises};
    if (MPI_Comm_dup(comm, &m->comm) != MPI_SUCCESS) {
        free(m);
        return fail(error, SEQTOPK_E_TEAM, "the communicator cannot be duplicated");
    }
    MPI_Comm_set_errhandler(m->comm, MPI_ERRORS_RETURN);
    team->rank = rank;
    team->size = size;
    team->allreduce_sum = allreduce;
    team->exscan_sum = exscan;
    team->context = m;
    return SEQTOPK_OK;
}

seqtopk_status seqtopk_mpi_team(seqtopk_team *team, MPI_Comm comm, seqtopk_error *error) {
    return make(team, comm, 0, error);
}

seqtopk_status seqtopk_mpi_world(seqtopk_team *team, seqtopk_error *error) {
    int was = 0, provided;
    memset(team, 0, sizeof *team);
    if (MPI_Initialized(&was) != MPI_SUCCESS || (!was && MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided)))
        return fail(error, SEQTOPK_E_TEAM, "MPI cannot be initialised");
    return make(team, MPI_COMM_WORLD, !was, error);
}

void seqtopk_mpi_team_end(seqtopk_team *team) {
    seqtopk_mpi *m = team->context;
    if (!m)
        return;
    MPI_Comm_free(&m->comm);
    free(m->space);
    if (m->finalises)
        MPI_Finalize();
    free(m);
    team->context = NULL;
}

void seqtopk_mpi_abort(const seqtopk_team *team, int status) {
    const seqtopk_mpi *m = team->context;
    MPI_Abort(m ? m->comm : MPI_COMM_WORLD, status);
    abort();
}

/* ------------------------------------------------------------------- bytes -- */

static int receive(MPI_Comm comm, char *to, const int64_t *sizes, int ranks) {
    int status = MPI_SUCCESS;
    for (int r = 1; r < ranks; r++) {
        to += sizes[r - 1];
        for (int64_t at = 0; at < sizes[r] && status == MPI_SUCCESS; at += PIECE)
            status = MPI_Recv(to + at, sizes[r] - at > PIECE ? PIECE : (int)(sizes[r] - at), MPI_BYTE, r, TAG_BYTES,
                              comm, MPI_STATUS_IGNORE);
    }
    return status;
}

seqtopk_status seqtopk_mpi_gather(const seqtopk_team *team, const void *bytes, int64_t size, void **all,
                                  int64_t *sizes) {
    const seqtopk_mpi *m = team->context;
    int64_t total = 0;
    *all = NULL;
    int status = MPI_Gather(&size, 1, MPI_INT64_T, sizes, 1, MPI_INT64_T, 0, m->comm);
    if (status != MPI_SUCCESS)
        return SEQTOPK_E_TEAM;
    for (int64_t at = 0; team->rank > 0 && at < size && status == MPI_SUCCESS; at += PIECE)
        status = MPI_Send((const char *)bytes + at, size - at > PIECE ? PIECE : (int)(size - at), MPI_BYTE, 0,
                          TAG_BYTES, m->comm);
    if (team->rank > 0)
        return status == MPI_SUCCESS ? SEQTOPK_OK : SEQTOPK_E_TEAM;
    for (int r = 0; r < team->size; r++)
        total += sizes[r];
    if (!(*all = malloc(total > 0 ? (size_t)total : 1)))
        return SEQTOPK_E_MEMORY;
    if (size > 0)
        memcpy(*all, bytes, (size_t)size);
    if (receive(m->comm, *all, sizes, team->size) == MPI_SUCCESS)
        return SEQTOPK_OK;
    free(*all);
    *all = NULL;
    return SEQTOPK_E_TEAM;
}
