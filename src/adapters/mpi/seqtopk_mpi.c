/* SPDX-License-Identifier: MIT */
#include "collectives.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 30 };

static seqtopk_status fail(seqtopk_error *error, seqtopk_status status, const char *what) {
    if (error) {
        error->status = status;
        error->token = -1;
        snprintf(error->message, sizeof error->message, "%s", what);
    }
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
    *m = (seqtopk_mpi){.among = {.rank = rank, .size = size}, .finalises = finalises};
    if (MPI_Comm_dup(comm, &m->among.comm) != MPI_SUCCESS) {
        free(m);
        return fail(error, SEQTOPK_E_TEAM, "the communicator cannot be duplicated");
    }
    MPI_Comm_set_errhandler(m->among.comm, MPI_ERRORS_RETURN);
    if (seqtopk_mpi_share_memory(m)) {
        MPI_Comm_free(&m->among.comm);
        free(m);
        return fail(error, SEQTOPK_E_TEAM, "the ranks of a machine cannot be told");
    }
    team->rank = rank;
    team->size = size;
    team->allreduce_sum = seqtopk_mpi_allreduce;
    team->exscan_sum = seqtopk_mpi_exscan;
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
    seqtopk_mpi_unshare_memory(m);
    MPI_Comm_free(&m->among.comm);
    free(m->among.space);
    if (m->finalises)
        MPI_Finalize();
    free(m);
    team->context = NULL;
}

void seqtopk_mpi_abort(const seqtopk_team *team, int status) {
    const seqtopk_mpi *m = team->context;
    MPI_Abort(m ? m->among.comm : MPI_COMM_WORLD, status);
    abort();
}

/* ------------------------------------------------------------------- bytes -- */

static int receive(MPI_Comm comm, char *to, const int64_t *sizes, int ranks) {
    int status = MPI_SUCCESS;
    for (int r = 1; r < ranks; r++) {
        to += sizes[r - 1];
        for (int64_t at = 0; at < sizes[r] && status == MPI_SUCCESS; at += PIECE)
            status = MPI_Recv(to + at, sizes[r] - at > PIECE ? PIECE : (int)(sizes[r] - at), MPI_BYTE, r,
                              SEQTOPK_MPI_TAG_BYTES, comm, MPI_STATUS_IGNORE);
    }
    return status;
}

seqtopk_status seqtopk_mpi_gather(const seqtopk_team *team, const void *bytes, int64_t size, void **all,
                                  int64_t *sizes) {
    const seqtopk_mpi *m = team->context;
    int64_t total = 0;
    *all = NULL;
    int status = MPI_Gather(&size, 1, MPI_INT64_T, sizes, 1, MPI_INT64_T, 0, m->among.comm);
    if (status != MPI_SUCCESS)
        return SEQTOPK_E_TEAM;
    for (int64_t at = 0; team->rank > 0 && at < size && status == MPI_SUCCESS; at += PIECE)
        status = MPI_Send((const char *)bytes + at, size - at > PIECE ? PIECE : (int)(size - at), MPI_BYTE, 0,
                          SEQTOPK_MPI_TAG_BYTES, m->among.comm);
    if (team->rank > 0)
        return status == MPI_SUCCESS ? SEQTOPK_OK : SEQTOPK_E_TEAM;
    for (int r = 0; r < team->size; r++)
        total += sizes[r];
    if (!(*all = malloc(total > 0 ? (size_t)total : 1)))
        return SEQTOPK_E_MEMORY;
    if (size > 0)
        memcpy(*all, bytes, (size_t)size);
    if (receive(m->among.comm, *all, sizes, team->size) == MPI_SUCCESS)
        return SEQTOPK_OK;
    free(*all);
    *all = NULL;
    return SEQTOPK_E_TEAM;
}
