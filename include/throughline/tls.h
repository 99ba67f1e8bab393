/* tls.h - one connection's TLS 1.3 as bytes in and bytes out.
 *
 * Path:   under the frames of a TCP connection, at both ends
 * Pure:   no socket, no clock. What comes from the network is put in, what is to go
 * there is taken out, straight from and to two rings of fixed size; the caller reads
 * and writes plaintext between them. Thread: a connection belongs to one thread at a
 * time. */
#ifndef THROUGHLINE_TLS_H
#define THROUGHLINE_TLS_H

#include "throughline/error.h"
#include "throughline/trust.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tl_tls;

/* The caller's end, which wants a certificate for `host`, or (NULL) the server's. Both
 * want one that --tls-ca has signed. `trust` must have TLS (tl_trust_has_tls). */
TL_MUST_USE int tl_tls_new(const struct tl_trust *trust, const char *host,
                           struct tl_tls **ret_tls);
void tl_tls_free(struct tl_tls *t); /* NULL is legal */

/* Where bytes from the network go, and for how many there is room: none before what is
 * there has been read. tl_tls_received() says how many came. */
size_t tl_tls_room(struct tl_tls *t, uint8_t **ret_where);
void tl_tls_received(struct tl_tls *t, size_t size);

/* Bytes for the network, in order; tl_tls_sent() says how many of them went. */
size_t tl_tls_outgoing(struct tl_tls *t, const uint8_t **ret_bytes);
void tl_tls_sent(struct tl_tls *t, size_t size);

/* Is the handshake through, at this end? */
bool tl_tls_is_open(const struct tl_tls *t);

/* Plaintext. 0: *ret_size > 0 bytes were read (accepted).
 *   TL_E_BUSY      more must come from the network, or go there, first; tl_tls_write()
 * is then to be called again with the same bytes, or more after them TL_E_CLOSED    the
 * other end has closed TL_E_AUTH      no trust: the text says whose certificate is
 * wrong, how, and what to do TL_E_PROTOCOL  what came is not TLS, or was changed on its
 * way After another error than TL_E_BUSY: send what is outgoing, which tells the other
 * end why, and close. */
TL_MUST_USE int tl_tls_read(struct tl_tls *t, void *bytes, size_t size,
                            size_t *ret_size);
TL_MUST_USE int tl_tls_write(struct tl_tls *t, const void *bytes, size_t size,
                             size_t *ret_size);

#endif
