/* SPDX-License-Identifier: MIT */
/* What the library keeps for the whole process, and who frees it when the library leaves before the process does. */
#ifndef SEQTOPK_SRC_UNLOAD_H
#define SEQTOPK_SRC_UNLOAD_H

/* To be called by what begins to keep memory. Without it nothing is freed. */
void seqtopk_unload_prepare(void);

/* Free what their units keep. No other thread is in the library. */
void seqtopk_tuning_unload(void);
void seqtopk_machine_unload(void);

#endif
