/* SPDX-License-Identifier: MIT */
/*
 * Proof that a function ran: its first instruction becomes a breakpoint, which notes the visit and takes itself away.
 * A plan's word alone would not do: it could name one kernel and call another.
 */
#ifndef SEQTOPK_TESTS_TRAP_H
#define SEQTOPK_TESTS_TRAP_H

enum { TRAPS_MOST = 256 };

typedef void trap_function(void);

/* Arms n traps. 0 where code cannot be changed (another architecture, a hardened kernel); nothing is armed then. */
int trap_arm(trap_function *const *functions, int n);

/* Takes all traps away; returns through hit [n] which functions were entered. */
void trap_disarm(int *hit);

#endif
