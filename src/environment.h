/* SPDX-License-Identifier: MIT */
/* The environment of the process, which its user writes. */
#ifndef SEQTOPK_SRC_ENVIRONMENT_H
#define SEQTOPK_SRC_ENVIRONMENT_H

/*
 * What a variable says; NULL: it is not set, or empty, or the process runs with more rights than its user has (setuid,
 * setgid, file capabilities): what such a program does is not for its user to choose.
 */
const char *seqtopk_environment(const char *variable);

#endif
