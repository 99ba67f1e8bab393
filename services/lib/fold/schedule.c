/* schedule.c - the learning rate as a function of the version.
 *
 * Every machine must find the same rate, so powers are repeated products and the cosine
 * is a polynomial: neither depends on a mathematics library. */
#include "fold_internal.h"

static double power(double base, uint64_t exponent) {
    double result = 1.0;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1) {
            result *= base;
        }
        base *= base;
    }
    return result;
}

/* sin(x) for |x| <= pi/2 by its Taylor series; the first term left out is below 1e-17.
 */
static double sine(double x) {
    double square = x * x;
    double sum = 1.0;
    for (int n = 20; n >= 2; n -= 2) {
        sum = 1.0 - sum * square / (double)(n * (n + 1));
    }
    return x * sum;
}

/* cos(pi t) for t in [0, 1]. */
static double cosine_of_turn(double t) {
    const double pi = 3.14159265358979323846;
    return -sine(pi * (t - 0.5));
}

static double cosine_factor(const struct tl_schedule *s, uint64_t version) {
    if (version >= s->period) {
        return s->factor;
    }
    double t = (double)version / (double)s->period;
    return s->factor + (1.0 - s->factor) * 0.5 * (1.0 + cosine_of_turn(t));
}

static double kind_factor(const struct tl_schedule *s, uint64_t version) {
    switch (s->kind) {
    case TL_STEP:
        return power(s->factor, version / s->period);
    case TL_COSINE:
        return cosine_factor(s, version);
    case TL_CONSTANT:
    default:
        return 1.0;
    }
}

static double warmup_factor(const struct tl_schedule *s, uint64_t version) {
    if (version >= s->warmup) {
        return 1.0;
    }
    return (double)(version + 1) / (double)s->warmup;
}

double tl_schedule_rate(const struct tl_schedule *s, double base, uint64_t version) {
    return base * kind_factor(s, version) * warmup_factor(s, version);
}
