/* SPDX-License-Identifier: MIT */
/* Sums over the ranks of a communicator, for so few words that delay is what they cost. */
#ifndef SEQTOPK_SRC_ADAPTERS_MPI_COLLECTIVES_H
#define SEQTOPK_SRC_ADAPTERS_MPI_COLLECTIVES_H

#include <mpi.h>
#define SEQTOPK_MPI_COMM
#include "seqtopk_mpi.h"

enum { SEQTOPK_MPI_TAG_BYTES = 1, SEQTOPK_MPI_TAG_WORDS = 2, SEQTOPK_MPI_TAG_FOLD = 3 };

/* Ranks that send messages to one another. */
typedef struct seqtopk_mpi_ranks {
    MPI_Comm comm;
    int rank, size;
    int64_t *space; /* of words from other ranks */
    int64_t words;  /* that it has room for */
} seqtopk_mpi_ranks;

typedef struct seqtopk_mpi {
    seqtopk_mpi_ranks among;   /* all of the team */
    seqtopk_mpi_ranks leaders; /* the first of each machine; comm is MPI_COMM_NULL at the others */
    MPI_Comm machine;          /* the ranks of this one; MPI_COMM_NULL: all is done by messages */
    MPI_Win window;
    struct seqtopk_mpi_memory *memory; /* that they share */
    int local, locals;                 /* this rank among them, and how many they are */
    int finalises;                     /* MPI was initialised here */
} seqtopk_mpi;

/* Finds the ranks on the same machine, which add in memory that they share, and only their first sends messages. Where there is no
 * such memory, or SEQTOPK_MPI_SHARED is 0 in the environment, all send messages. Collective; not 0: MPI has failed. */
int seqtopk_mpi_share_memory(seqtopk_mpi *m);
void seqtopk_mpi_unshare_memory(seqtopk_mpi *m);

/* Those of a seqtopk_team, whose context is a seqtopk_mpi. */
int seqtopk_mpi_allreduce(void *context, int64_t *words, int64_t n);
int seqtopk_mpi_exscan(void *context, int64_t *words, int64_t n);

#endif
