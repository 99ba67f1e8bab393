/* assets.h - files that cmake/embed.cmake has put into the program. */
#ifndef TL_PAGE_ASSETS_H
#define TL_PAGE_ASSETS_H

#include <stddef.h>

struct tl_asset {
    const unsigned char *bytes;
    size_t size;
};

extern const struct tl_asset tl_asset_head_html, tl_asset_body_html, tl_asset_page_css,
    tl_asset_charts_js, tl_asset_page_js, tl_asset_uPlot_min_css,
    tl_asset_uPlot_iife_min_js;

#endif
