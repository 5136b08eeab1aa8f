/* SPDX-License-Identifier: MIT */
/*
 * Teams of MPI processes for seqtopk_route_team: libseqtopk_mpi, installed as <seqtopk/mpi.h> with a pkg-config file of its own
 * (seqtopk_mpi). libseqtopk itself knows no MPI, and neither does this header without SEQTOPK_MPI_COMM:
 *
 *     #include <mpi.h>
 *     #define SEQTOPK_MPI_COMM
 *     #include <seqtopk/mpi.h>
 *
 *     seqtopk_team team;
 *     status = seqtopk_mpi_team(&team, MPI_COMM_WORLD, &error);    // collective
 *     status = seqtopk_route_team(plan, &in, &out, scratch, size, &team, NULL, &error);
 *     seqtopk_mpi_team_end(&team);                                 // collective
 */
#ifndef SEQTOPK_MPI_H
#define SEQTOPK_MPI_H

#include <seqtopk/seqtopk.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef SEQTOPK_MPI_COMM
/*
 * Fills *team with the ranks of `comm`, whose communicator is duplicated. Collective; MPI must be initialised. One thread at a
 * time uses a team. Ranks on one machine add in memory that they share, asleep while they wait, and one of them exchanges messages
 * with other machines; with SEQTOPK_MPI_SHARED=0 in the environment all is done by messages. Where an MPI call fails the team's collectives say so, which seqtopk_route_team returns as
 * SEQTOPK_E_TEAM: errors are returned on the duplicate, whatever handler `comm` has. What becomes of the others when a process dies is
 * the launcher's matter: Open MPI's mpirun ends them all. SEQTOPK_E_TEAM: it cannot be duplicated; SEQTOPK_E_VALUE: more
 * ranks than a team can have; SEQTOPK_E_MEMORY.
 */
SEQTOPK_API seqtopk_status seqtopk_mpi_team(seqtopk_team *team, MPI_Comm comm, seqtopk_error *error);
#endif

/* The same of MPI_COMM_WORLD, and initialises MPI if nobody has: for programs that are compiled without MPI and load this. */
SEQTOPK_API seqtopk_status seqtopk_mpi_world(seqtopk_team *team, seqtopk_error *error);

/* Frees what a team has; MPI is finalised if seqtopk_mpi_world has initialised it. Collective. */
SEQTOPK_API void seqtopk_mpi_team_end(seqtopk_team *team);

/* Ends all processes of the team with that exit status; does not return. */
SEQTOPK_API void seqtopk_mpi_abort(const seqtopk_team *team, int status);

/*
 * The bytes [size] of all ranks, one after the other, at rank 0, where *all is then malloc'ed, the caller's to free, and sizes [team->size]
 * tells whose is what; elsewhere *all is NULL and sizes may be. Collective. SEQTOPK_E_TEAM, and SEQTOPK_E_MEMORY at rank 0,
 * after which a team is of no more use.
 */
SEQTOPK_API seqtopk_status seqtopk_mpi_gather(const seqtopk_team *team, const void *bytes, int64_t size, void **all,
                                              int64_t *sizes);

#ifdef __cplusplus
}
#endif

#endif
