#include "tune/report.h"
bool seqtopk_tune_report_write(const seqtopk_tune_report *report, FILE *out) { (void)report; return fputs("<html/>\n", out) >= 0; }
