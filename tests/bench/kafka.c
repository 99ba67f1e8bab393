/* kafka.c - gradients through Kafka, beside a bare librdkafka pair that moves as much.
 *
 * Synthetic gradients of the size of the paper's CNN, one process, one partition, a
 * single local broker; the arms take turns:
 *   bare              a producer and a consumer with the log's settings, f32's bytes
 *   f32, bf16, int8   encoded, appended, read back, checked and folded (async, SGD)
 *   read, bare read   what f32 and bare have written, read again from the beginning:
 *                     that is a server's replay */
#include "throughline/fold.h"
#include "throughline/log.h"
#include "throughline/service.h"

#include "bench_kafka.h"

#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <poll.h>

#define ROUNDS    5
#define GRADIENTS 40u
#define COUNT     812000u /* values: 3.25 MB as float32 */
#define IN_FLIGHT 4u

#define PATH_GOAL 0.85
#define BF16_GOAL 1.7
#define INT8_GOAL 3.0
#define READ_GOAL 0.60

static float *gradient;
static uint8_t *encoded;
static unsigned runs;

/* ---- our path ----------------------------------------------------------------------
 */

struct path {
    char run[32];
    enum tl_encoding encoding;
    struct tl_log *log;
    struct tl_appender *appender;
    struct tl_reader *reader;
    struct tl_fold *fold;
};

static void must(int rc) {
    if (rc != 0) {
        bench_die(tl_error_text());
    }
}

static void new_fold(struct path *p) {
    const struct tl_fold_config config = {
        .shards = 1,
        .count = COUNT,
        .consistency = TL_ASYNC,
        .spare_copies = 1,
        .optimizer = {.kind = TL_SGD, .learning_rate = 0.01},
    };
    must(tl_fold_new(&config, gradient, &p->fold));
    const struct tl_record join = {
        .kind = TL_RECORD_JOIN, .position = 1, .incarnation = 1};
    struct tl_fold_effect effect;
    must(tl_fold_apply(p->fold, &join, &effect));
}

static void open_path(struct path *p) {
    char note[512];
    const struct tl_log_config config = {
        .url = BENCH_KAFKA_URL,
        .job = "bench",
        .run = p->run,
        .identity = tl_log_identity("bench", p->run, 1),
        .shards = 1,
        .workers = 1,
        .record_bytes = COUNT * sizeof(float),
        .replication = 1,
    };
    must(tl_log_open(&config, &p->log));
    must(tl_log_create(p->log, tl_now_ms() + 30000, note, sizeof(note)));
    must(tl_appender_new(p->log, 0, IN_FLIGHT, &p->appender));
    must(tl_reader_new(p->log, 0, 0, COUNT, &p->reader));
    new_fold(p);
}

static void close_path(struct path *p) {
    tl_reader_free(p->reader);
    tl_appender_free(p->appender);
    tl_fold_free(p->fold);
    tl_log_close(p->log);
}

static void put(struct path *p, uint64_t sequence, bool *ret_full) {
    uint64_t size = tl_codec_size(p->encoding, COUNT, 0);
    const struct tl_header h = {
        .kind = TL_KIND_PUSH,
        .encoding = (uint8_t)p->encoding,
        .incarnation = 1,
        .sequence = sequence,
        .length = size,
    };
    const void *bytes = gradient;
    if (p->encoding != TL_ENCODING_F32) {
        tl_codec_encode(p->encoding, gradient, COUNT, 0, encoded);
        bytes = encoded;
    }
    int rc = tl_appender_put(p->appender, &h, bytes);
    *ret_full = rc == TL_E_BUSY;
    must(rc == TL_E_BUSY ? 0 : rc);
}

/* Fold what has come; the position in the log is one behind the fold's, which has a
 * JOIN before it. */
static uint32_t take(struct path *p) {
    struct tl_reader_item item;
    struct tl_fold_effect effect;
    uint32_t taken = 0;
    int rc = 0;
    while ((rc = tl_reader_next(p->reader, &item)) == 0) {
        item.record.position = tl_fold_position(p->fold) + 1;
        must(tl_fold_apply(p->fold, &item.record, &effect));
        taken++;
    }
    must(rc == TL_E_BUSY ? 0 : rc);
    return taken;
}

static void await(const struct path *p) {
    struct pollfd fds[] = {{.fd = tl_appender_fd(p->appender), .events = POLLIN},
                           {.fd = tl_reader_fd(p->reader), .events = POLLIN}};
    (void)poll(fds, 2, 100);
}

/* Gradients a second, from the first put to the last fold. */
static double run_path(struct path *p, enum tl_encoding encoding) {
    *p = (struct path){.encoding = encoding};
    (void)snprintf(p->run, sizeof(p->run), "r%u", runs++);
    open_path(p);
    uint32_t put_count = 0;
    uint32_t taken = 0;
    double began = bench_now();
    while (taken < GRADIENTS) {
        bool is_full = tl_appender_put_count(p->appender) -
                           tl_appender_durable_count(p->appender) >=
                       IN_FLIGHT;
        if (put_count < GRADIENTS && !is_full) {
            put(p, put_count + 1, &is_full);
            put_count += !is_full;
        }
        uint32_t now = take(p);
        taken += now;
        if (now == 0 && (is_full || put_count == GRADIENTS)) {
            await(p);
        }
    }
    return GRADIENTS / (bench_now() - began);
}

/* The same log again, by a reader that begins at its beginning. */
static double run_read(struct path *p) {
    tl_reader_free(p->reader);
    tl_fold_free(p->fold);
    new_fold(p);
    uint32_t taken = 0;
    double began = bench_now();
    must(tl_reader_new(p->log, 0, 0, COUNT, &p->reader));
    while (taken < GRADIENTS) {
        uint32_t now = take(p);
        taken += now;
        if (now == 0) {
            struct pollfd fd = {.fd = tl_reader_fd(p->reader), .events = POLLIN};
            (void)poll(&fd, 1, 100);
        }
    }
    return GRADIENTS / (bench_now() - began);
}

/* ---- the bare pair: the settings of kafka_append.c and kafka_read.c -----------------
 */

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char why[256];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK) {
        bench_die(why);
    }
}

static rd_kafka_t *handle(rd_kafka_type_t type, rd_kafka_conf_t *conf) {
    char why[256];
    set(conf, "bootstrap.servers", "127.0.0.1:" BENCH_KAFKA_PORT);
    rd_kafka_t *h = rd_kafka_new(type, conf, why, sizeof(why));
    if (h == NULL) {
        bench_die(why);
    }
    return h;
}

static uint32_t delivered;

static void on_delivery(rd_kafka_t *h, const rd_kafka_message_t *m, void *opaque) {
    (void)h;
    (void)opaque;
    if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        bench_die(rd_kafka_err2str(m->err));
    }
    delivered++;
}

static rd_kafka_t *producer(void) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "enable.idempotence", "true");
    set(conf, "acks", "all");
    set(conf, "linger.ms", "0");
    set(conf, "message.max.bytes", "8392704");
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    return handle(RD_KAFKA_PRODUCER, conf);
}

static rd_kafka_t *consumer(const char *topic) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "group.id", "bench");
    set(conf, "enable.auto.commit", "false");
    set(conf, "fetch.wait.max.ms", "100");
    set(conf, "fetch.message.max.bytes", "8392704");
    set(conf, "receive.message.max.bytes", "100000000");
    set(conf, "queued.max.messages.kbytes", "65536");
    rd_kafka_t *h = handle(RD_KAFKA_CONSUMER, conf);
    (void)rd_kafka_poll_set_consumer(h);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0)->offset = 0;
    (void)rd_kafka_assign(h, list);
    rd_kafka_topic_partition_list_destroy(list);
    return h;
}

static uint32_t consume(rd_kafka_t *h, int wait_ms) {
    rd_kafka_message_t *m = rd_kafka_consumer_poll(h, wait_ms);
    uint32_t got = m != NULL && m->err == RD_KAFKA_RESP_ERR_NO_ERROR;
    if (m != NULL) {
        rd_kafka_message_destroy(m);
    }
    return got;
}

static double bare_read(const char *topic) {
    double began = bench_now();
    rd_kafka_t *from = consumer(topic);
    uint32_t taken = 0;
    while (taken < GRADIENTS) {
        taken += consume(from, 100);
    }
    double rate = GRADIENTS / (bench_now() - began);
    rd_kafka_destroy(from);
    return rate;
}

/* A topic as the log makes it: by the log. */
static void make_topic(char topic[64]) {
    struct path p = {.encoding = TL_ENCODING_F32};
    (void)snprintf(p.run, sizeof(p.run), "r%u", runs++);
    (void)snprintf(topic, 64, "bench.%s", p.run);
    open_path(&p);
    close_path(&p);
}

static double run_bare(double *ret_read) {
    char topic[64];
    make_topic(topic);
    rd_kafka_t *to = producer();
    rd_kafka_t *from = consumer(topic);
    uint32_t put_count = 0;
    uint32_t taken = 0;
    delivered = 0;
    double began = bench_now();
    while (taken < GRADIENTS) {
        bool is_full = put_count - delivered >= IN_FLIGHT || put_count == GRADIENTS;
        if (!is_full) {
            rd_kafka_resp_err_t error = rd_kafka_producev(
                to, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(0),
                RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                RD_KAFKA_V_VALUE(gradient, COUNT * sizeof(float)), RD_KAFKA_V_END);
            put_count += error == RD_KAFKA_RESP_ERR_NO_ERROR;
        }
        (void)rd_kafka_poll(to, 0);
        taken += consume(from, is_full ? 1 : 0);
    }
    double rate = GRADIENTS / (bench_now() - began);
    rd_kafka_destroy(from);
    rd_kafka_destroy(to);
    *ret_read = bare_read(topic);
    return rate;
}

/* ---- rounds ------------------------------------------------------------------------
 */

static bool tell(const char *what, const char *reference, double rate, double *ratios,
                 double goal) {
    double ratio = bench_median(ratios, ROUNDS);
    printf("bench kafka %s: %.1f gradients/s, ratio to %s %.2f (goal >= %.2f) %s\n",
           what, rate, reference, ratio, goal, bench_verdict(ratio >= goal));
    return ratio >= goal;
}

int main(void) {
    double rates[4][ROUNDS];
    double ratios[4][ROUNDS];
    gradient = malloc(COUNT * sizeof(float));
    encoded = malloc(tl_codec_size(TL_ENCODING_BF16, COUNT, 0)); /* int8: half of it */
    if (gradient == NULL || encoded == NULL) {
        bench_die("no memory");
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        gradient[i] = (float)(i % 1000) * 1e-6F;
    }
    bench_kafka_start();
    for (int i = 0; i < ROUNDS; i++) {
        struct path p;
        double bare_again = 0.0;
        double bare = run_bare(&bare_again);
        rates[0][i] = run_path(&p, TL_ENCODING_F32);
        rates[3][i] = run_read(&p);
        close_path(&p);
        rates[1][i] = run_path(&p, TL_ENCODING_BF16);
        close_path(&p);
        rates[2][i] = run_path(&p, TL_ENCODING_INT8);
        close_path(&p);
        ratios[0][i] = rates[0][i] / bare;
        ratios[1][i] = rates[1][i] / rates[0][i];
        ratios[2][i] = rates[2][i] / rates[0][i];
        ratios[3][i] = rates[3][i] / bare_again;
    }
    bench_kafka_stop();
    bool ok = tell("f32", "a bare pair", bench_median(rates[0], ROUNDS), ratios[0],
                   PATH_GOAL);
    ok =
        tell("bf16", "f32", bench_median(rates[1], ROUNDS), ratios[1], BF16_GOAL) && ok;
    ok =
        tell("int8", "f32", bench_median(rates[2], ROUNDS), ratios[2], INT8_GOAL) && ok;
    ok = tell("replay", "a bare consumer", bench_median(rates[3], ROUNDS), ratios[3],
              READ_GOAL) &&
         ok;
    return ok ? 0 : 1;
}
