/* SPDX-License-Identifier: MIT */
/* That the *_INIT macros initialise. */
int seqtopk_header_c(void);

int main(void) { return !seqtopk_header_c(); }
