/* An IDX file, plain or gzip: what is taken is as large as it says. */
#include "idx.h"

#include "fuzz.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct tl_idx idx;
    char path[64];
    int fd = memfd_create("idx", MFD_CLOEXEC);
    must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (tl_idx_read(path, 1, TL_IDX_RANK_MAX, &idx) == 0) {
        uint64_t bytes = 1;
        for (size_t i = 0; i < idx.rank; i++) {
            bytes *= idx.dims[i];
        }
        must(bytes > 0 && idx.bytes[0] + idx.bytes[bytes - 1] >= 0);
        free(idx.bytes);
    }
    (void)close(fd);
    return 0;
}
