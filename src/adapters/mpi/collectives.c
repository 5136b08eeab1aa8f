/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "collectives.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { DIRECT_RANKS = 16 };

/* ---------------------------------------------------------------- messages -- */

/* Not MPI_Allreduce and MPI_Exscan: for such sizes Open MPI's go round a ring or down a line, a message's delay for each rank,
 * and delay is what these cost. */

static int make_space(seqtopk_mpi_ranks *m, int64_t words) {
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
static int add_direct(seqtopk_mpi_ranks *m, int64_t *words, int n, int only_lower) {
    MPI_Request requests[2 * DIRECT_RANKS];
    int count = 0, status = make_space(m, (int64_t)m->size * n);
    for (int r = 0; r < m->size && !status; r++)
        if (r != m->rank && (!only_lower || r < m->rank))
            status = MPI_Irecv(m->space + (int64_t)r * n, n, MPI_INT64_T, r, SEQTOPK_MPI_TAG_WORDS, m->comm,
                               &requests[count++]);
    for (int r = 0; r < m->size && !status; r++)
        if (r != m->rank && (!only_lower || r > m->rank))
            status = MPI_Isend(words, n, MPI_INT64_T, r, SEQTOPK_MPI_TAG_WORDS, m->comm, &requests[count++]);
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
static int add_doubling(seqtopk_mpi_ranks *m, int64_t *words, int n) {
    int power = 1, status = make_space(m, n);
    while (2 * power <= m->size)
        power *= 2;
    if (m->rank >= power) {
        if (!status)
            status = MPI_Send(words, n, MPI_INT64_T, m->rank - power, SEQTOPK_MPI_TAG_FOLD, m->comm);
        return status
                   ? status
                   : MPI_Recv(words, n, MPI_INT64_T, m->rank - power, SEQTOPK_MPI_TAG_FOLD, m->comm, MPI_STATUS_IGNORE);
    }
    const int has_guest = m->rank + power < m->size;
    if (has_guest && !status) {
        status = MPI_Recv(m->space, n, MPI_INT64_T, m->rank + power, SEQTOPK_MPI_TAG_FOLD, m->comm, MPI_STATUS_IGNORE);
        if (!status)
            add(words, m->space, n);
    }
    for (int distance = 1; distance < power && !status; distance *= 2) {
        status = MPI_Sendrecv(words, n, MPI_INT64_T, m->rank ^ distance, SEQTOPK_MPI_TAG_WORDS, m->space, n,
                              MPI_INT64_T, m->rank ^ distance, SEQTOPK_MPI_TAG_WORDS, m->comm, MPI_STATUS_IGNORE);
        if (!status)
            add(words, m->space, n);
    }
    return status || !has_guest ? status
                                : MPI_Send(words, n, MPI_INT64_T, m->rank + power, SEQTOPK_MPI_TAG_FOLD, m->comm);
}

/* So many words at a time that counts stay an int, and space small. */
enum { AT_ONCE = 1 << 20 };

static int add_messages(seqtopk_mpi_ranks *m, int64_t *words, int64_t n) {
    int status = 0;
    for (int64_t at = 0; at < n && !status; at += AT_ONCE) {
        const int some = n - at > AT_ONCE ? AT_ONCE : (int)(n - at);
        status = m->size <= DIRECT_RANKS ? add_direct(m, words + at, some, 0) : add_doubling(m, words + at, some);
    }
    return status;
}

/* ----------------------------------------------------------- shared memory -- */

/* Ranks wait asleep in their barriers: those that are late may need the cores. */
typedef struct seqtopk_mpi_memory {
    pthread_barrier_t arrived, done;
    int32_t status;  /* of the messages of the first rank */
    int64_t words[]; /* [locals, SHARED_WORDS]: each rank's; of the first then the sums */
} memory;

enum { SHARED_WORDS = 4096 };

static int make_barriers(memory *shared, int locals) {
    pthread_barrierattr_t how;
    int bad = pthread_barrierattr_init(&how);
    if (bad)
        return bad;
    bad = pthread_barrierattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
    if (!bad)
        bad = pthread_barrier_init(&shared->arrived, &how, (unsigned)locals);
    if (!bad)
        bad = pthread_barrier_init(&shared->done, &how, (unsigned)locals);
    pthread_barrierattr_destroy(&how);
    return bad;
}

/* The window of a machine's ranks; 0 where it cannot be had. */
static int open_window(seqtopk_mpi *m) {
    MPI_Aint size = 0;
    int unit, bad;
    if (m->local == 0)
        size = (MPI_Aint)sizeof *m->memory + (MPI_Aint)sizeof(int64_t) * SHARED_WORDS * m->locals;
    if (MPI_Win_allocate_shared(size, 1, MPI_INFO_NULL, m->machine, &m->memory, &m->window) != MPI_SUCCESS)
        return 0;
    bad = MPI_Win_shared_query(m->window, 0, &size, &unit, &m->memory) != MPI_SUCCESS;
    if (!bad && m->local == 0)
        bad = make_barriers(m->memory, m->locals);
    /* Nobody looks at them before they are made. */
    if (MPI_Allreduce(MPI_IN_PLACE, &bad, 1, MPI_INT, MPI_MAX, m->machine) == MPI_SUCCESS && !bad)
        return 1;
    MPI_Win_free(&m->window);
    return 0;
}

int seqtopk_mpi_share_memory(seqtopk_mpi *m) {
    const char *wanted = getenv("SEQTOPK_MPI_SHARED");
    int can = !(wanted && strcmp(wanted, "0") == 0), status;
    m->machine = m->leaders.comm = MPI_COMM_NULL;
    status = MPI_Comm_split_type(m->among.comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &m->machine);
    if (status != MPI_SUCCESS)
        return status;
    MPI_Comm_set_errhandler(m->machine, MPI_ERRORS_RETURN);
    MPI_Comm_rank(m->machine, &m->local);
    MPI_Comm_size(m->machine, &m->locals);
    /* All machines or none, and all ranks as one: some may have been started with another environment. */
    if ((status = MPI_Allreduce(MPI_IN_PLACE, &can, 1, MPI_INT, MPI_MIN, m->among.comm)) != MPI_SUCCESS)
        return status;
    const int has_window = can && m->locals > 1 && open_window(m);
    can = can && (has_window || m->locals == 1);
    if ((status = MPI_Allreduce(MPI_IN_PLACE, &can, 1, MPI_INT, MPI_MIN, m->among.comm)) != MPI_SUCCESS)
        return status;
    if (can) {
        status = MPI_Comm_split(m->among.comm, m->local == 0 ? 0 : MPI_UNDEFINED, 0, &m->leaders.comm);
        if (status == MPI_SUCCESS && m->local == 0) {
            MPI_Comm_set_errhandler(m->leaders.comm, MPI_ERRORS_RETURN);
            MPI_Comm_rank(m->leaders.comm, &m->leaders.rank);
            MPI_Comm_size(m->leaders.comm, &m->leaders.size);
        }
        if (!has_window)
            m->memory = NULL;
        return status;
    }
    if (has_window)
        MPI_Win_free(&m->window);
    m->memory = NULL;
    return MPI_Comm_free(&m->machine);
}

void seqtopk_mpi_unshare_memory(seqtopk_mpi *m) {
    if (m->memory)
        MPI_Win_free(&m->window);
    if (m->leaders.comm != MPI_COMM_NULL)
        MPI_Comm_free(&m->leaders.comm);
    if (m->machine != MPI_COMM_NULL)
        MPI_Comm_free(&m->machine);
    free(m->leaders.space);
}

static int add_shared(const seqtopk_mpi *m, seqtopk_mpi_ranks *leaders, int64_t *words, int64_t n) {
    memory *shared = m->memory;
    if (m->local > 0)
        memcpy(shared->words + (int64_t)m->local * SHARED_WORDS, words, (size_t)n * sizeof *words);
    pthread_barrier_wait(&shared->arrived);
    if (m->local == 0) {
        for (int r = 1; r < m->locals; r++)
            add(words, shared->words + (int64_t)r * SHARED_WORDS, n);
        shared->status = leaders->size > 1 ? add_messages(leaders, words, n) : 0;
        memcpy(shared->words, words, (size_t)n * sizeof *words);
    }
    pthread_barrier_wait(&shared->done);
    if (m->local > 0)
        memcpy(words, shared->words, (size_t)n * sizeof *words);
    return shared->status;
}

/* -------------------------------------------------------------- collectives -- */

int seqtopk_mpi_allreduce(void *context, int64_t *words, int64_t n) {
    seqtopk_mpi *m = context;
    int status = 0;
    if (m->machine == MPI_COMM_NULL || (!m->memory && m->leaders.size > 1))
        return add_messages(m->machine == MPI_COMM_NULL ? &m->among : &m->leaders, words, n);
    for (int64_t at = 0; at < n && m->memory && !status; at += SHARED_WORDS)
        status = add_shared(m, &m->leaders, words + at, n - at > SHARED_WORDS ? SHARED_WORDS : n - at);
    return status;
}

/* Not by machines, whose ranks need not follow one another. */
int seqtopk_mpi_exscan(void *context, int64_t *words, int64_t n) {
    seqtopk_mpi_ranks *m = &((seqtopk_mpi *)context)->among;
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
