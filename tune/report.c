/* SPDX-License-Identifier: MIT */
#include "tune/report.h"

#include "tune/decide.h"
#include "tune/report_map.h"

#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------- style -- */

/* Colours go by variables, so that light and dark are one table each. Winners carry a letter too, and numbers: nothing
 * is told by colour alone. */
static const char *const style[] = {
    ":root{--bg:#fbfbf9;--panel:#ffffff;--ink:#1c2330;--soft:#5b6472;--line:#e3e4e0;--none:#f1f1ee;--accent:#14507f;"
    "--v0:#8ecae6;--v1:#f6bd6b;--v2:#97d3b0;--v3:#e8a0a4;--v4:#c9b3e0;--v5:#ece07f;--v6:#a3b5dc;--v7:#d9b68f;"
    "--v8:#9edcd6;--v9:#cdd2d8;"
    "--h0:#eef5fb;--h1:#d5e6f4;--h2:#b3d1ea;--h3:#88b6dc;--h4:#4b88bd;--h5:#2a679c;--h6:#144a78;--lo:#16202c;--hi:#"
    "ffffff;"
    "--g0:#f3f3ef;--g1:#e2efdc;--g2:#c3dfb6;--g3:#99c886;--g4:#4f9343;--g5:#2f7029;--g6:#1b4f18}\n"
    "@media (prefers-color-scheme:dark){:root{--bg:#10141b;--panel:#171d27;--ink:#e8ebf0;--soft:#97a1b0;--line:#2a3240;"
    "--none:#141922;--accent:#8cc4ee;"
    "--v0:#1d6b98;--v1:#9a5b10;--v2:#2b7450;--v3:#9b4148;--v4:#6d4f95;--v5:#766811;--v6:#435a92;--v7:#775433;--v8:#"
    "20706c;"
    "--v9:#485160;"
    "--h0:#172333;--h1:#1a3049;--h2:#1e4362;--h3:#245c86;--h4:#4c93c4;--h5:#7fb9df;--h6:#b5dbf3;--lo:#e8ebf0;--hi:#"
    "0d1420;"
    "--g0:#181f26;--g1:#1c2f22;--g2:#22442b;--g3:#2b5f37;--g4:#56a05c;--g5:#88c588;--g6:#bfe6ba}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);"
    "font:15px/1.55 system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}"
    "main{max-width:1500px;margin:0 auto;padding:40px 28px 80px}"
    "h1{font-size:30px;font-weight:650;letter-spacing:-.02em;margin:0 0 4px}"
    "h2{font-size:21px;font-weight:650;letter-spacing:-.01em;margin:52px 0 2px;padding-top:22px;border-top:1px solid "
    "var(--line)}"
    "h3{font-size:14px;font-weight:600;margin:0 0 2px}"
    "p{margin:0 0 10px;max-width:86ch}.soft,figcaption{color:var(--soft)}"
    "code,.key{font:12.5px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}"
    ".key{color:var(--soft);overflow-wrap:anywhere}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:12px;margin:24px 0 18px}"
    ".tile{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:12px 16px}"
    ".tile b{display:block;font-size:24px;font-weight:650;letter-spacing:-.02em;font-variant-numeric:tabular-nums}"
    ".tile span{display:block;color:var(--soft);font-size:13px;line-height:1.35}"
    "nav{display:flex;flex-wrap:wrap;gap:8px;margin:14px 0 0}"
    "nav a{color:var(--accent);text-decoration:none;border:1px solid var(--line);border-radius:99px;padding:3px 12px;"
    "font-size:13.5px;background:var(--panel)}nav a:hover,nav a:focus{border-color:var(--accent)}"
    ".maps{display:flex;flex-wrap:wrap;gap:18px;margin-top:16px}"
    "figure{margin:0;background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:14px 16px 12px;"
    "overflow-x:auto;max-width:100%}"
    "figcaption{font-size:13px;max-width:660px;margin-bottom:8px}",
    "svg{display:block}svg text{font:10px ui-sans-serif,system-ui,Roboto,Arial,sans-serif;fill:var(--ink);"
    "font-variant-numeric:tabular-nums}svg .axis{fill:var(--soft);font-size:11px}svg .name{font-weight:600}"
    "svg .l{font-weight:700}svg .none{fill:var(--none)}svg .close rect{opacity:.42}"
    "svg g:hover rect{stroke:var(--ink);stroke-width:1.5}"
    ".v0 rect{fill:var(--v0)}.v1 rect{fill:var(--v1)}.v2 rect{fill:var(--v2)}.v3 rect{fill:var(--v3)}.v4 "
    "rect{fill:var(--v4)}"
    ".v5 rect{fill:var(--v5)}.v6 rect{fill:var(--v6)}.v7 rect{fill:var(--v7)}.v8 rect{fill:var(--v8)}.v9 "
    "rect{fill:var(--v9)}"
    ".h0 rect{fill:var(--h0)}.h1 rect{fill:var(--h1)}.h2 rect{fill:var(--h2)}.h3 rect{fill:var(--h3)}.h4 "
    "rect{fill:var(--h4)}"
    ".h5 rect{fill:var(--h5)}.h6 rect{fill:var(--h6)}"
    ".g0 rect{fill:var(--g0)}.g1 rect{fill:var(--g1)}.g2 rect{fill:var(--g2)}.g3 rect{fill:var(--g3)}.g4 "
    "rect{fill:var(--g4)}"
    ".g5 rect{fill:var(--g5)}.g6 rect{fill:var(--g6)}"
    "svg .h0 text,svg .h1 text,svg .h2 text,svg .h3 text,svg .g0 text,svg .g1 text,svg .g2 text,svg .g3 "
    "text{fill:var(--lo)}"
    "svg .h4 text,svg .h5 text,svg .h6 text,svg .g4 text,svg .g5 text,svg .g6 text{fill:var(--hi)}"
    "ul.legend{max-width:660px;list-style:none;display:flex;flex-wrap:wrap;gap:4px 16px;margin:10px 0 "
    "0;padding:0;font-size:13px}"
    ".legend i{display:inline-block;width:20px;height:16px;border-radius:4px;margin-right:6px;vertical-align:-3px;"
    "text-align:center;font:700 11px/16px ui-sans-serif,system-ui,Arial,sans-serif}"
    ".legend .soft{margin-left:5px}"
    "i.v0{background:var(--v0)}i.v1{background:var(--v1)}i.v2{background:var(--v2)}i.v3{background:var(--v3)}"
    "i.v4{background:var(--v4)}i.v5{background:var(--v5)}i.v6{background:var(--v6)}i.v7{background:var(--v7)}"
    "i.v8{background:var(--v8)}i.v9{background:var(--v9)}"
    "details{margin-top:16px}summary{cursor:pointer;color:var(--accent);font-size:14px;font-weight:600}"
    ".scroll{overflow:auto;max-height:520px;border:1px solid var(--line);border-radius:10px;margin-top:10px}"
    "table{border-collapse:collapse;font-size:13px;background:var(--panel);width:100%;font-variant-numeric:tabular-"
    "nums}"
    "th,td{padding:4px 12px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}"
    "th{position:sticky;top:0;background:var(--panel);font-weight:600;color:var(--soft)}"
    "td.w,th.w{text-align:left}"
    "@media (max-width:700px){main{padding:24px 14px}h1{font-size:24px}}\n",
};

/* ----------------------------------------------------------------- words -- */

void seqtopk_report_text(FILE *out, const char *text) {
    for (; *text; text++)
        switch (*text) {
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '&': fputs("&amp;", out); break;
        case '"': fputs("&quot;", out); break;
        default: fputc((unsigned char)*text < 32 || (unsigned char)*text > 126 ? '?' : *text, out);
        }
}

void seqtopk_report_time(FILE *out, double ns) {
    if (ns < 1e4)
        fprintf(out, "%.0f ns", ns);
    else if (ns < 1e7)
        fprintf(out, "%.*f us", ns < 1e6 ? 1 : 0, ns / 1e3);
    else
        fprintf(out, "%.*f ms", ns < 1e9 ? 1 : 0, ns / 1e6);
}

/* ----------------------------------------------------------------- tiles -- */

typedef double measure(const seqtopk_tune_result *result);

static double gain_of(const seqtopk_tune_result *r) {
    return r->ns > 0 && r->incumbent_ns > 0 ? r->incumbent_ns / r->ns : 0;
}
static double over_reference(const seqtopk_tune_result *r) {
    return r->ns > 0 && r->reference_ns > 0 ? r->reference_ns / r->ns : 0;
}
static double over_floor(const seqtopk_tune_result *r) {
    return r->ns > 0 && r->floor_ns > 0 && r->point.scope == SEQTOPK_SCOPE_SEQUENCE ? r->ns / r->floor_ns : 0;
}

/* A quantile of a measure over the results that have it. */
static double quantile(const seqtopk_tune_report *report, measure *of, double q, double *values) {
    int32_t n = 0;
    for (size_t i = 0; i < report->count; i++)
        if (of(report->results + i) > 0)
            values[n++] = of(report->results + i);
    if (n == 0)
        return 0;
    seqtopk_tune_median(values, n); /* sorts */
    return values[(int32_t)(q * (n - 1) + 0.5)];
}

static void tile(FILE *out, const char *number, const char *what) {
    fprintf(out, "<div class=\"tile\"><b>%s</b><span>%s</span></div>\n", number, what);
}

static void write_tiles(const seqtopk_tune_report *report, FILE *out, double *values) {
    char number[32];
    size_t decisions = 0, changed = 0;
    for (size_t i = 0; i < report->count; i++)
        for (int32_t f = 0; f < report->results[i].count; f++) {
            decisions++;
            changed += report->results[i].found[f].row != report->results[i].found[f].incumbent;
        }
    fputs("<div class=\"tiles\">\n", out);
    snprintf(number, sizeof number, "%zu", report->count);
    tile(out, number, "points timed");
    snprintf(number, sizeof number, "%zu", decisions);
    tile(out, number, "decisions");
    snprintf(number, sizeof number, "%zu", changed);
    tile(out, number, "unlike the model");
    snprintf(number, sizeof number, "%.1f %%", 100 * (quantile(report, gain_of, 0.9, values) - 1));
    tile(out, number, "longer without tuning, 90th percentile");
    if (quantile(report, over_reference, 0.5, values) > 0) {
        snprintf(number, sizeof number, "%.0f x", quantile(report, over_reference, 0.5, values));
        tile(out, number, "the speed of the reference, median");
    }
    if (quantile(report, over_floor, 0.5, values) > 0) {
        snprintf(number, sizeof number, "%.1f x", quantile(report, over_floor, 0.5, values));
        tile(out, number, "scoring passes a call, median (SeqTopK)");
    }
    snprintf(number, sizeof number, "%.1f %%", 100 * report->noise);
    tile(out, number, "noise of equal work");
    fputs("</div>\n", out);
}

/* ------------------------------------------------------------- sections -- */

static bool same_section(const seqtopk_tune_point *a, const seqtopk_tune_point *b) {
    return a->scope == b->scope && a->dtype == b->dtype;
}

static void write_table(FILE *out, const seqtopk_report_section *s) {
    fputs("<details><summary>All numbers as a table</summary><div "
          "class=\"scroll\"><table>\n<thead><tr><th>T</th><th>E</th>"
          "<th>K</th><th>a call</th><th>a token</th><th>untuned</th><th>reference</th><th>to the floor</th>"
          "<th class=\"w\">decided, and by how much over the next</th></tr></thead>\n<tbody>\n",
          out);
    for (size_t i = 0; i < s->count; i++) {
        const seqtopk_tune_result *r = s->results[i];
        fprintf(out, "<tr><td>%lld</td><td>%d</td><td>%d</td><td>", (long long)r->point.tokens, (int)r->point.experts,
                (int)r->point.top_k);
        seqtopk_report_time(out, r->ns);
        fputs("</td><td>", out);
        seqtopk_report_time(out, r->ns / (double)r->point.tokens);
        fprintf(out, "</td><td>%+.1f %%</td><td>", 100 * (gain_of(r) > 0 ? gain_of(r) - 1 : 0));
        if (over_reference(r) > 0)
            fprintf(out, "%.1f x", over_reference(r));
        fputs("</td><td>", out);
        if (r->floor_ns > 0)
            fprintf(out, "%.2f x", r->ns / r->floor_ns);
        fputs("</td><td class=\"w\">", out);
        for (int32_t f = 0; f < r->count; f++) {
            const seqtopk_tune_found *found = r->found + f;
            fprintf(out, "%s%s %s_%s %+.0f %%%s", f ? ", " : "", found->row->op_name, found->row->isa_name,
                    found->row->algorithm, 100 * found->gap, found->clear ? "" : " ~");
        }
        fputs("</td></tr>\n", out);
    }
    fputs("</tbody></table></div></details>\n", out);
}

/* The stages whose choice matters most are shown at once. */
enum { AT_ONCE = 2 };

static void write_section(FILE *out, const seqtopk_report_section *s) {
    const seqtopk_tune_point *p = &s->results[0]->point;
    fprintf(out, "<section id=\"%s-%s\">\n<h2>%s, %s</h2>\n<p class=\"soft\">%s</p>\n",
            seqtopk_tune_scope_word(p->scope), seqtopk_tune_dtype_word(p->dtype),
            p->scope == SEQTOPK_SCOPE_SEQUENCE ? "SeqTopK: scope sequence" : "TopK: scope token",
            seqtopk_tune_dtype_word(p->dtype),
            p->scope == SEQTOPK_SCOPE_SEQUENCE
                ? "Each sequence shares one budget of T x K experts. Softmax scores, normalised "
                  "weights, lists by token."
                : "Each token has K experts. Softmax scores, normalised weights, lists by token.");
    if (p->dtype != SEQTOPK_DTYPE_F32)
        fputs(
            "<p class=\"soft\">Stages that see keys or ids only, whatever the logits are, are decided with f32.</p>\n",
            out);
    fputs("<div class=\"maps\">\n", out);
    seqtopk_op ops[SEQTOPK_OPS];
    const int32_t count = seqtopk_report_ops(s, ops);
    for (int32_t i = 0; i < count && i < AT_ONCE; i++)
        seqtopk_report_winners(out, s, ops[i], true);
    seqtopk_report_floor(out, s);
    seqtopk_report_gain(out, s);
    fputs("</div>\n", out);
    if (count > AT_ONCE) {
        fputs("<details><summary>The other stages</summary>\n<div class=\"maps\">\n", out);
        for (int32_t i = AT_ONCE; i < count; i++)
            seqtopk_report_winners(out, s, ops[i], false);
        fputs("</div></details>\n", out);
    }
    write_table(out, s);
    fputs("</section>\n", out);
}

static void write_head(const seqtopk_tune_report *report, FILE *out) {
    fputs("<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n<meta charset=\"utf-8\" "
          "/>\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n"
          "<meta name=\"color-scheme\" content=\"light dark\" />\n<title>seqtopk: tuning of ",
          out);
    seqtopk_report_text(out, report->processor);
    fputs("</title>\n<style>\n", out);
    for (size_t i = 0; i < sizeof style / sizeof *style; i++)
        fputs(style[i], out);
    fputs("</style>\n</head>\n<body>\n<main>\n<h1>Which kernel wins where</h1>\n<p class=\"soft\">", out);
    seqtopk_report_text(out, report->processor);
    fprintf(out, ", %s; seqtopk %s", report->when, report->library);
    if (report->count && report->results[0].point.threads > 1)
        fprintf(out, "; %d threads", (int)report->results[0].point.threads);
    fprintf(out, "; timed in %.0f s</p>\n<p class=\"key\">", report->seconds);
    seqtopk_report_text(out, report->machine);
    fputs("</p>\n", out);
}

static void write_reading(FILE *out) {
    fputs(
        "<p>Every kernel of a stage was timed inside whole routes, side by side, after it had given the reference's "
        "lists to "
        "the bit. A cell is one shape: tokens T to the right, experts E and top-k K downwards. Its letter and colour "
        "are the winner, its number is how many per cent longer a call takes with the next best kernel; pale cells are "
        "closer than the noise. The floor is one scoring pass over the logits. Point at a cell for its times.</p>\n",
        out);
}

bool seqtopk_tune_report_write(const seqtopk_tune_report *report, FILE *out) {
    double *values = malloc((report->count + 1) * sizeof *values);
    seqtopk_report_section s = {malloc((report->count + 1) * sizeof *s.results), 0};
    bool *written = calloc(report->count + 1, sizeof *written);
    const bool ok = values && s.results && written;
    if (ok) {
        write_head(report, out);
        write_tiles(report, out, values);
        write_reading(out);
        fputs("<nav>\n", out);
        for (int pass = 0; pass < 2; pass++) {
            memset(written, 0, report->count);
            /* Scope before dtype, whatever the order of the grid. */
            for (int scope = 0; scope < 2; scope++)
                for (size_t i = 0; i < report->count; i++) {
                    const seqtopk_tune_point *p = &report->results[i].point;
                    if (written[i] || (int)p->scope != scope)
                        continue;
                    s.count = 0;
                    for (size_t j = i; j < report->count; j++)
                        if (same_section(p, &report->results[j].point)) {
                            s.results[s.count++] = report->results + j;
                            written[j] = true;
                        }
                    if (pass)
                        write_section(out, &s);
                    else
                        fprintf(out, "<a href=\"#%s-%s\">%s %s</a>\n", seqtopk_tune_scope_word(p->scope),
                                seqtopk_tune_dtype_word(p->dtype), seqtopk_tune_scope_word(p->scope),
                                seqtopk_tune_dtype_word(p->dtype));
                }
            fputs(pass ? "</main>\n</body>\n</html>\n" : "</nav>\n", out);
        }
    }
    free(written);
    free(s.results);
    free(values);
    return ok && !ferror(out);
}
