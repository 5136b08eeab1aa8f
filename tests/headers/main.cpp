/* SPDX-License-Identifier: MIT */
/* That the *_INIT macros initialise in C++. */
int seqtopk_header_cpp();

int main() { return !seqtopk_header_cpp(); }
