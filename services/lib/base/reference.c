/* reference.c - docs/configuration.md, printed from the tables so that it cannot lie.
 */
#include "throughline/service.h"

static const char introduction[] =
    "# Configuration\n"
    "\n"
    "Printed from the option tables; a test compares it with them.\n"
    "\n"
    "A name like `optimizer.learning_rate` is\n"
    "\n"
    "| where | how |\n"
    "|---|---|\n"
    "| job file | `{\"optimizer\": {\"learning_rate\": 0.01}}` |\n"
    "| flag | `--optimizer-learning-rate 0.01` or `--optimizer-learning-rate=0.01` |\n"
    "| variable | `THROUGHLINE_OPTIMIZER_LEARNING_RATE=0.01` |\n"
    "\n"
    "A flag goes before a variable, a variable before the job file, the job file "
    "before "
    "the default.\n"
    "A boolean is switched on with `--name` and off with `--no-name`. An empty "
    "variable "
    "counts as unset.\n"
    "A relative path in a file is relative to that file; on the command line and in a "
    "variable, to the working directory.\n"
    "An option marked secret is given as the path of a file that holds it: "
    "`--name-file`, `THROUGHLINE_NAME_FILE`, or `\"name_file\"`.\n"
    "\n"
    "What is wrong is refused with one line and exit code 2: an unknown or misspelt "
    "key (the nearest right one is named), a key given twice, a value of another type "
    "or out of its range. A `THROUGHLINE_*` variable that is in no table is ignored, "
    "since Kubernetes makes such variables by itself; one that looks misspelt is "
    "logged.\n";

void tl_reference_markdown(FILE *out) {
    (void)fputs(introduction, out);
    (void)fputs(
        "\n## Every service\n\n"
        "Flags and variables of each service, not keys of the job file. Options "
        "of a single service: its `--help`.\n\n",
        out);
    tl_config_markdown(&tl_service_table, out);
    (void)fputs(
        "\n### Who may talk\n\nOf every service, and of `throughline evaluate`: "
        "`operations.md`.\n\n",
        out);
    tl_config_markdown(&tl_trust_table, out);
    (void)fputs("\n## The job\n\n", out);
    tl_config_markdown(&tl_job_table, out);
}
