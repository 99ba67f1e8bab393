/* Memory handed over a socket, and what is refused of a peer that lies. */
#include "throughline/wire.h"

#include "test.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define AREA ((size_t)8192)

static int sealed_memory(size_t size, int seals) {
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void both_ends_see_the_same_bytes(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    struct tl_shared mine;
    struct tl_shared theirs;
    int fd = -1;
    assert_int_equal(tl_shared_create(AREA - 5, &mine, &fd), 0);
    assert_int_equal(mine.area, AREA); /* whole pages */
    uint8_t header[TL_HEADER_BYTES] = {1, 2, 3};
    uint8_t received[TL_HEADER_BYTES] = {0};
    assert_int_equal(tl_shared_send(ends[0], header, fd), 0);
    close(fd);
    assert_int_equal(tl_shared_receive(ends[1], received, sizeof(received), &fd),
                     sizeof(received));
    assert_memory_equal(header, received, sizeof(header));
    assert_true(fd >= 0);
    assert_int_equal(tl_shared_map(fd, AREA, &theirs), 0);
    memset(tl_shared_request(&mine), 'q', AREA);
    memset(tl_shared_reply(&theirs), 'r', AREA);
    assert_int_equal(tl_shared_request(&theirs)[AREA - 1], 'q');
    assert_int_equal(tl_shared_reply(&mine)[AREA - 1], 'r');
    tl_shared_done(&theirs);
    tl_shared_done(&theirs); /* done twice is done */
    memset(tl_shared_request(&mine), 'x', AREA);
    tl_shared_done(&mine);
    close(ends[0]);
    close(ends[1]);
}

static void bytes_without_a_descriptor_are_only_bytes(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    char byte = 'a';
    int fd = 99;
    assert_int_equal(write(ends[0], &byte, 1), 1);
    assert_int_equal(tl_shared_receive(ends[1], &byte, 1, &fd), 1);
    assert_int_equal(fd, -1);
    close(ends[0]);
    assert_int_equal(tl_shared_receive(ends[1], &byte, 1, &fd), 0);
    close(ends[1]);
}

static void only_sealed_memory_of_the_right_size_is_mapped(void **state) {
    (void)state;
    struct tl_shared m;
    /* It could shrink under our feet. */
    assert_int_equal(tl_shared_map(sealed_memory(2 * AREA, F_SEAL_GROW), AREA, &m),
                     TL_E_PROTOCOL);
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
    assert_int_equal(tl_shared_map(sealed_memory(AREA, seals), AREA, &m),
                     TL_E_PROTOCOL);
    assert_int_equal(tl_shared_map(sealed_memory(0, seals), 0, &m), TL_E_PROTOCOL);
    assert_int_equal(tl_shared_map(sealed_memory(2 * AREA, seals), 1, &m),
                     TL_E_PROTOCOL);
    assert_int_equal(
        tl_shared_map(sealed_memory(2 * AREA, seals), UINT64_MAX / 2 / AREA * AREA, &m),
        TL_E_PROTOCOL);
    assert_int_equal(tl_shared_map(open("/dev/null", O_RDWR | O_CLOEXEC), AREA, &m),
                     TL_E_PROTOCOL);
    assert_int_equal(tl_shared_map(sealed_memory(2 * AREA, seals), AREA, &m), 0);
    tl_shared_done(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends_see_the_same_bytes),
        cmocka_unit_test(bytes_without_a_descriptor_are_only_bytes),
        cmocka_unit_test(only_sealed_memory_of_the_right_size_is_mapped),
    };
    return cmocka_run_group_tests_name("shared memory", tests, NULL, NULL);
}
