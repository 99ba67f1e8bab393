/* report.h - experiments planned, figures from timelines, tables from figures.
 *
 * Path:   beside it: timeline -> [report] -> page, CSV, JSON, Markdown
 * Pure:   no I/O but what is written to a FILE that is given.
 * Thread: any; an object belongs to one at a time. */
#ifndef THROUGHLINE_REPORT_H
#define THROUGHLINE_REPORT_H

#include "throughline/error.h"

#include <jansson.h>
#include <stdio.h>

/* ---- figures.c: one run ---------------------------------------------------------- */

struct tl_figures;
TL_MUST_USE int tl_figures_new(struct tl_figures **ret_figures);
void tl_figures_free(struct tl_figures *f); /* NULL is legal */
/* One line of the run's timeline (docs/timeline.md), in order. TL_E_NOMEM. */
TL_MUST_USE int tl_figures_add(struct tl_figures *f, const json_t *line);
/* What the run came to, as docs/experiments.md lists it: numbers by name, null where
 * one is not known; "kills" and "services" are arrays of such objects. New reference;
 * NULL: no memory. */
json_t *tl_figures_json(const struct tl_figures *f);

/* ---- plan.c: an experiment's file as the runs it asks for -------------------------
 */

/* An array of {name, arm, label, kills, seed, paper, arguments}; "arguments" go to
 * `throughline run` behind the job file.
 *   scale  factor for times and updates of kills, ends and the keys "scaled"
 * TL_E_CONFIG  one line says what is wrong and what is right */
TL_MUST_USE int tl_plan_read(const json_t *experiment, double scale, json_t **ret_plan);

/* ---- compare.c: several runs ------------------------------------------------------
 */

/* Means over seeds, each with the half-width of its 95 % confidence interval (Student's
 * t; null with a single run): for arrays of figures of the same arm. Keys K and
 * K_interval. */
json_t *tl_compare_means(const json_t *figures);
/* Accuracy of several runs of one arm as one curve {x, y, low, high}: means and their
 * 95 % confidence interval at `points` moments; low and high only with two runs or
 * more. `curves`: array of {x, y}. NULL: no memory. */
json_t *tl_compare_curves(const json_t *curves, unsigned points);

/* How far the curves lie above those of their controls, pair by pair (runs of one
 * seed), on average over the time that both cover: {gap, gap_interval}, null where
 * unknown. */
json_t *tl_compare_gap(const json_t *curves, const json_t *controls);

/* ---- targets.c: an arm beside the paper, and beside itself without a failure -------
 */

/* What follows from an arm's row: numbers "accuracy_gain" (points above the paper's),
 * "times_sooner" at 70 %, and texts, "yes" or "no", "is_above" the paper's accuracy,
 * "is_sooner" ten times, "is_undisturbed": its curve as the control's within the
 * interval. Null where it cannot be told. */
void tl_targets_judge(json_t *row);

/* ---- tables.c, print.c: tables {title, note, columns, rows} -----------------------
 */

/* An array of tables, a new reference: of one run's figures; of several arms, `means`
 * an array of what tl_compare_means() gave with a "label", `failed` runs without a
 * result, {label, state, reason}. `costs` is tl_costs()'s. */
json_t *tl_tables_of_run(const json_t *figures, const json_t *costs);
json_t *tl_tables_of_runs(const json_t *means, const json_t *failed,
                          const json_t *costs);

/* ---- costs.c ---- */

/* What runs [{label, figures}] used, and prices for it, as the page wants it: {terms,
 * rows, note}. `prices` {name: US$, or {on_demand, spot}} may be NULL, or lack some:
 * then examples. */
json_t *tl_costs(const json_t *runs, const json_t *prices);
/* TL_E_CONFIG: a price that there is none of. */
TL_MUST_USE int tl_costs_check(const json_t *prices);
/* Its rows with what each comes to: "on_demand", "spot". */
json_t *tl_costs_rows(const json_t *costs);

void tl_print_csv(const json_t *tables, FILE *out);
void tl_print_markdown(const json_t *tables, FILE *out);

#endif
