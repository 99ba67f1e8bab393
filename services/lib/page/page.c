/* page.c - the parts of the page, which the build embeds, as one HTML document.
 *
 * What is shown is data: a JSON document in a script element that is no program. */
#include "throughline/page.h"

#include "assets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* JSON in HTML: no text in it can end its element. */
static void put_json(FILE *out, const json_t *json) {
    char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(6));
    for (const char *c = text; c != NULL && *c != '\0'; c++) {
        if (*c == '<') {
            (void)fputs("\\u003c", out);
        } else {
            (void)fputc(*c, out);
        }
    }
    free(text);
}

static void put(FILE *out, const struct tl_asset *asset) {
    (void)fwrite(asset->bytes, 1, asset->size, out);
}

static void put_page(FILE *out, const json_t *report) {
    put(out, &tl_asset_head_html);
    (void)fputs("<style>", out);
    put(out, &tl_asset_uPlot_min_css);
    put(out, &tl_asset_page_css);
    (void)fputs("</style>\n", out);
    put(out, &tl_asset_body_html);
    (void)fputs("<script id=\"report\" type=\"application/json\">", out);
    if (report != NULL) {
        put_json(out, report);
    }
    (void)fputs("</script>\n<script>", out);
    put(out, &tl_asset_uPlot_iife_min_js);
    (void)fputs("</script>\n<script>", out);
    put(out, &tl_asset_charts_js);
    put(out, &tl_asset_page_js);
    (void)fputs("</script>\n", out);
}

char *tl_page_html(const json_t *report, size_t *ret_size) {
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_size);
    if (out == NULL) {
        return NULL;
    }
    put_page(out, report);
    const bool is_whole = !ferror(out);
    if (fclose(out) != 0 || !is_whole) {
        free(text);
        return NULL;
    }
    return text;
}
