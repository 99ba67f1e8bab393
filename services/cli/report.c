/* report.c - `throughline report DIR`: what a run, or an experiment, came to. */
#include "report.h"

#include "throughline/report.h"
#include "throughline/service.h"

#include "cli.h"
#include "flags.h"

#include <stddef.h>
#include <string.h>

static const char *const formats[] = {"html", "csv", "json", "md", NULL};

#define FIELD(field)                                                                   \
    .offset = offsetof(struct tl_report_options, field),                               \
    .size = sizeof(((struct tl_report_options *)0)->field)

static const struct tl_option rows[] = {
    {.name = "format",
     .type = TL_OPT_CHOICE,
     FIELD(format),
     .fallback = "html",
     .choices = formats,
     .doc = "html: one page that needs no network; the others: its tables."},
    {.name = "output",
     .type = TL_OPT_STRING,
     FIELD(output),
     .fallback = "",
     .doc = "File to write, \"-\" for standard output; by default DIR/report.html for "
            "html, else standard output."},
    {.name = "prices",
     .type = TL_OPT_STRING,
     FIELD(prices),
     .fallback = "",
     .doc = "JSON file of prices for the cost table, in US$: {\"vCPU-hour\": "
            "{\"on_demand\": 0.04, \"spot\": 0.013}, \"1000 store writes\": 0.005, "
            "...}."},
};
const struct tl_option_table tl_report_table = {rows, sizeof(rows) / sizeof(rows[0])};

static int read_arguments(int argc, char **argv, struct tl_report_options *o,
                          const char **ret_directory) {
    const struct tl_flag_target target = {&tl_report_table, o};
    int rc = tl_config_defaults(&tl_report_table, o);
    for (int i = 1; i < argc && rc == 0;) {
        int taken = tl_flags_take(&target, 1, NULL, argc - i, argv + i);
        rc = taken < 0 ? taken : 0;
        if (taken == 0 && *ret_directory != NULL) {
            rc = tl_fail(TL_E_CONFIG, "two directories: %s and %s", *ret_directory,
                         argv[i]);
        } else if (taken == 0) {
            *ret_directory = argv[i];
            taken = 1;
        }
        i += taken;
    }
    if (rc == 0 && *ret_directory == NULL) {
        rc = tl_fail(TL_E_CONFIG, "of which run? throughline report DIR; see --help");
    }
    return rc == 0 ? tl_config_complete(&tl_report_table, o) : rc;
}

static void complete_output(struct tl_report_options *o, const char *directory) {
    if (o->output[0] == '\0' && o->format == TL_REPORT_HTML) {
        (void)snprintf(o->output, sizeof(o->output), "%.1000s/report.html", directory);
    } else if (o->output[0] == '\0') {
        (void)snprintf(o->output, sizeof(o->output), "-");
    }
}

static int report(struct tl_report_options *o, const char *directory) {
    json_t *prices = NULL;
    json_t *model = NULL;
    int rc = o->prices[0] != '\0' ? tl_report_read_json(o->prices, &prices) : 0;
    rc = rc == 0 && prices != NULL ? tl_costs_check(prices) : rc;
    rc = rc == 0 ? tl_report_model(directory, prices, &model) : rc;
    complete_output(o, directory);
    rc = rc == 0 ? tl_report_write(model, o->format, o->output) : rc;
    if (rc == 0 && strcmp(o->output, "-") != 0) {
        (void)printf("%s\n", o->output);
    }
    json_decref(model);
    json_decref(prices);
    return rc;
}

int tl_cli_report(int argc, char **argv) {
    struct tl_report_options options;
    const char *directory = NULL;
    if (tl_flags_want_help(argc, argv)) {
        (void)puts("usage: throughline report DIR [flags]\n\n"
                   "Shows what the run, or the experiment, in DIR came to: figures, "
                   "charts, costs.\n");
        tl_config_help(&tl_report_table, stdout);
        return TL_EXIT_OK;
    }
    int rc = read_arguments(argc, argv, &options, &directory);
    rc = rc == 0 ? report(&options, directory) : rc;
    return rc == 0 ? TL_EXIT_OK : tl_flags_fail("report", rc);
}
