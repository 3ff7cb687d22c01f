/* SPDX-License-Identifier: Apache-2.0
 *
 * smmu_wizard.h: talk to `smmu-wizard smmu-server` from a test in C. One header, C99 (or C++) and POSIX; docs/smmu-protocol.md describes the lines.
 *
 *     static struct smmu_wizard s;                            // half a megabyte
 *     if (smmu_wizard_open(&s, NULL))                        // NULL: the socket that $SMMU_WIZARD_SOCKET names
 *         return fprintf(stderr, "%s\n", s.error), 1;
 *     smmu_wizard_writel(&s, 0x9050020, 0xd);
 *     struct smmu_wizard_dma dma;
 *     smmu_wizard_dma(&s, 1, 8, 0x80000000, data, sizeof data, "ssid=1", &dma);
 *     if (s.failed) ...                                       // errors stay: look once, at the end
 *
 * Functions answer 0, or -1 with a sentence in `error`; `failed` stays set from the first error on, and nothing is sent any more then. An answer
 * that does not come within SMMU_WIZARD_TIMEOUT_MS is an error. Not for several threads at once: open a second connection.
 */
#ifndef SMMU_WIZARD_H
#define SMMU_WIZARD_H

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef SMMU_WIZARD_TIMEOUT_MS
#define SMMU_WIZARD_TIMEOUT_MS 30000
#endif
#define SMMU_WIZARD_VERSION 1
#define SMMU_WIZARD_LINE 262144 /* bytes of a line */
#define SMMU_WIZARD_BYTES 65536 /* bytes that one command moves */

struct smmu_wizard {
    int fd;
    int failed;
    char error[256];
    /* Called for each line that SMMUs have to say ("MSI smmu0 eventq 0x... 0x..."), once smmu_wizard_hear() was called. */
    void (*told)(void *opaque, const char *line);
    void *opaque;
    size_t have;
    char buffer[SMMU_WIZARD_LINE];
    char line[SMMU_WIZARD_LINE];
};

/* What became of an access that lies in one 4 KiB page. */
struct smmu_wizard_dma {
    char how[16];   /* translated, bypass, disabled, aborted, razwi, stalled */
    uint64_t pa;    /* where it may pass */
    int reached;    /* memory answered there */
    char event[32]; /* F_TRANSLATION ...; empty without one */
    int recorded;   /* the event's record is in the event queue */
    int stag;       /* of a stalled access; -1 for none */
};

#if defined(__GNUC__)
#define SMMU_WIZARD_UNUSED __attribute__((unused))
#define SMMU_WIZARD_FORMAT(text, first) __attribute__((format(printf, text, first)))
#else
#define SMMU_WIZARD_UNUSED
#define SMMU_WIZARD_FORMAT(text, first)
#endif

SMMU_WIZARD_UNUSED SMMU_WIZARD_FORMAT(2, 3) static int smmu_wizard_fail(struct smmu_wizard *s, const char *format, ...)
{
    va_list arguments;

    if (!s->failed) {
        va_start(arguments, format);
        vsnprintf(s->error, sizeof s->error, format, arguments);
        va_end(arguments);
    }
    s->failed = 1;
    return -1;
}

SMMU_WIZARD_UNUSED static int smmu_wizard_wait(struct smmu_wizard *s, short events)
{
    struct pollfd one = { s->fd, events, 0 };
    int ready;

    do
        ready = poll(&one, 1, SMMU_WIZARD_TIMEOUT_MS);
    while (ready < 0 && errno == EINTR);
    if (ready < 0)
        return smmu_wizard_fail(s, "poll: %s", strerror(errno));
    return ready ? 0 : smmu_wizard_fail(s, "no answer came within %d ms", SMMU_WIZARD_TIMEOUT_MS);
}

/* One line from the server into s->line, without its end. */
SMMU_WIZARD_UNUSED static int smmu_wizard_next(struct smmu_wizard *s)
{
    for (;;) {
        char *end = (char *)memchr(s->buffer, '\n', s->have);
        ssize_t got;

        if (end) {
            size_t length = (size_t)(end - s->buffer);

            memcpy(s->line, s->buffer, length);
            s->line[length] = 0;
            s->have -= length + 1;
            memmove(s->buffer, end + 1, s->have);
            return 0;
        }
        if (s->have == sizeof s->buffer)
            return smmu_wizard_fail(s, "the server sent a line that is too long");
        if (smmu_wizard_wait(s, POLLIN))
            return -1;
        got = recv(s->fd, s->buffer + s->have, sizeof s->buffer - s->have, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return smmu_wizard_fail(s, "recv: %s", strerror(errno));
        if (!got)
            return smmu_wizard_fail(s, "the server has ended the conversation");
        s->have += (size_t)got;
    }
}

/* Send a command; what comes behind OK, which stays until the next one, or NULL. */
SMMU_WIZARD_UNUSED static const char *smmu_wizard_send(struct smmu_wizard *s, const char *text)
{
    size_t length = strlen(text), sent = 0;

    if (s->failed)
        return NULL;
    while (sent < length) {
        ssize_t done = smmu_wizard_wait(s, POLLOUT) ? -1 : send(s->fd, text + sent, length - sent, MSG_NOSIGNAL);

        if (done < 0 && errno == EINTR && !s->failed)
            continue;
        if (done < 0) {
            smmu_wizard_fail(s, "send: %s", strerror(errno));
            return NULL;
        }
        sent += (size_t)done;
    }
    for (;;) {
        if (smmu_wizard_next(s))
            return NULL;
        if (!strncmp(s->line, "OK", 2) && (s->line[2] == ' ' || !s->line[2]))
            return s->line + 2 + (s->line[2] == ' ');
        if (!strncmp(s->line, "FAIL", 4)) {
            smmu_wizard_fail(s, "%.60s: %.180s", text, s->line + 5);
            s->error[strcspn(s->error, "\n")] = ' ';
            return NULL;
        }
        if (s->told)
            s->told(s->opaque, s->line);
    }
}

SMMU_WIZARD_UNUSED SMMU_WIZARD_FORMAT(2, 3) static const char *smmu_wizard_ask(struct smmu_wizard *s, const char *format, ...)
{
    char text[512];
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(text, sizeof text - 1, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof text - 1) {
        smmu_wizard_fail(s, "the command is too long");
        return NULL;
    }
    memcpy(text + length, "\n", 2);
    return smmu_wizard_send(s, text);
}

/* Connect to the socket at `path`, or at $SMMU_WIZARD_SOCKET. */
SMMU_WIZARD_UNUSED static int smmu_wizard_open(struct smmu_wizard *s, const char *path)
{
    struct sockaddr_un address;

    memset(s, 0, sizeof *s);
    memset(&address, 0, sizeof address);
    s->fd = -1;
    if (!path)
        path = getenv("SMMU_WIZARD_SOCKET");
    if (!path)
        return smmu_wizard_fail(s, "no socket: set SMMU_WIZARD_SOCKET");
    if (strlen(path) >= sizeof address.sun_path)
        return smmu_wizard_fail(s, "the path of the socket is too long");
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, path);
    s->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&address, sizeof address))
        return smmu_wizard_fail(s, "%.100s: %s", path, strerror(errno));
    return smmu_wizard_ask(s, "hello %d", SMMU_WIZARD_VERSION) ? 0 : -1;
}

SMMU_WIZARD_UNUSED static void smmu_wizard_close(struct smmu_wizard *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

/* Hear what SMMUs say: `told` is called while a command waits for its reply. */
SMMU_WIZARD_UNUSED static int smmu_wizard_hear(struct smmu_wizard *s, void (*told)(void *, const char *), void *opaque)
{
    s->told = told;
    s->opaque = opaque;
    return smmu_wizard_ask(s, "irq %s", told ? "on" : "off") ? 0 : -1;
}

/* Registers, and numbers in memory; 0 after an error. */
SMMU_WIZARD_UNUSED static uint64_t smmu_wizard_get(struct smmu_wizard *s, char letter, uint64_t address)
{
    const char *reply = smmu_wizard_ask(s, "read%c 0x%" PRIx64, letter, address);

    return reply ? strtoull(reply, NULL, 0) : 0;
}

SMMU_WIZARD_UNUSED static uint32_t smmu_wizard_readl(struct smmu_wizard *s, uint64_t address)
{
    return (uint32_t)smmu_wizard_get(s, 'l', address);
}

SMMU_WIZARD_UNUSED static uint64_t smmu_wizard_readq(struct smmu_wizard *s, uint64_t address)
{
    return smmu_wizard_get(s, 'q', address);
}

SMMU_WIZARD_UNUSED static int smmu_wizard_writel(struct smmu_wizard *s, uint64_t address, uint32_t value)
{
    return smmu_wizard_ask(s, "writel 0x%" PRIx64 " 0x%" PRIx32, address, value) ? 0 : -1;
}

SMMU_WIZARD_UNUSED static int smmu_wizard_writeq(struct smmu_wizard *s, uint64_t address, uint64_t value)
{
    return smmu_wizard_ask(s, "writeq 0x%" PRIx64 " 0x%" PRIx64, address, value) ? 0 : -1;
}

/* Two digits a byte behind "0x", and the bytes of such; -1 where there are fewer. */
SMMU_WIZARD_UNUSED static char *smmu_wizard_digits(char *text, const void *data, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)data;

    for (size_t i = 0; i < size; i++)
        text += sprintf(text, "%02x", bytes[i]);
    return text;
}

SMMU_WIZARD_UNUSED static int smmu_wizard_bytes(struct smmu_wizard *s, const char *text, void *data, size_t size)
{
    unsigned char *bytes = (unsigned char *)data;

    if (!text || strncmp(text, "0x", 2) || strlen(text) < 2 + 2 * size)
        return smmu_wizard_fail(s, "the server sent no data");
    for (size_t i = 0; i < size; i++) {
        char digits[3] = { text[2 + 2 * i], text[3 + 2 * i], 0 };

        bytes[i] = (unsigned char)strtoul(digits, NULL, 16);
    }
    return 0;
}

/* Memory: at most SMMU_WIZARD_BYTES at once. */
SMMU_WIZARD_UNUSED static int smmu_wizard_read(struct smmu_wizard *s, uint64_t address, void *data, size_t size)
{
    const char *reply = smmu_wizard_ask(s, "read 0x%" PRIx64 " %zu", address, size);

    return reply ? smmu_wizard_bytes(s, reply, data, size) : -1;
}

SMMU_WIZARD_UNUSED static int smmu_wizard_write(struct smmu_wizard *s, uint64_t address, const void *data, size_t size)
{
    char *text, *end;
    int done;

    if (size > SMMU_WIZARD_BYTES)
        return smmu_wizard_fail(s, "%zu bytes are more than one command moves", size);
    if (!(text = (char *)malloc(2 * size + 100)))
        return smmu_wizard_fail(s, "no memory");
    end = smmu_wizard_digits(text + sprintf(text, "write 0x%" PRIx64 " %zu 0x", address, size), data, size);
    strcpy(end, "\n");
    done = smmu_wizard_send(s, text) ? 0 : -1;
    free(text);
    return done;
}

/* The value of `name` ("pa=") in a reply; NULL where it has none. */
SMMU_WIZARD_UNUSED static const char *smmu_wizard_value(const char *reply, const char *name)
{
    const char *found = reply ? strstr(reply, name) : NULL;

    return found ? found + strlen(name) : NULL;
}

/*
 * An access of the device `sid`: `size` bytes to or from `data` at the input address `iova`, within one page of 4 KiB. `options` are words of the
 * protocol ("priv ssid=3 smmu=smmu1") or NULL. Not an error: a fault, which is in `dma`.
 */
SMMU_WIZARD_UNUSED static int smmu_wizard_dma(struct smmu_wizard *s, int write, uint32_t sid, uint64_t iova, void *data, size_t size,
                                              const char *options, struct smmu_wizard_dma *dma)
{
    const char *reply, *value;
    char *text, *end;

    memset(dma, 0, sizeof *dma);
    dma->stag = -1;
    if (!size || (iova & 4095) + size > 4096)
        return smmu_wizard_fail(s, "the access does not lie in one page");
    if (!(text = (char *)malloc(2 * size + 200 + (options ? strlen(options) : 0))))
        return smmu_wizard_fail(s, "no memory");
    end = text + sprintf(text, "dma %s 0x%" PRIx32 " 0x%" PRIx64 " %zu ", write ? "write" : "read", sid, iova, size);
    if (write)
        end = smmu_wizard_digits(end + sprintf(end, "0x"), data, size);
    sprintf(end, " %s\n", options ? options : "");
    reply = smmu_wizard_send(s, text);
    free(text);
    if (!reply)
        return -1;
    snprintf(dma->how, sizeof dma->how, "%.*s", (int)strcspn(reply, " "), reply);
    if ((value = smmu_wizard_value(reply, " pa=")))
        dma->pa = strtoull(value, NULL, 0);
    if ((value = smmu_wizard_value(reply, " memory=")))
        dma->reached = atoi(value);
    if ((value = smmu_wizard_value(reply, " event=")))
        snprintf(dma->event, sizeof dma->event, "%.*s", (int)strcspn(value, " "), value);
    if ((value = smmu_wizard_value(reply, " recorded=")))
        dma->recorded = atoi(value);
    if ((value = smmu_wizard_value(reply, " stag=")) && *value != '-')
        dma->stag = atoi(value);
    if (!write && (value = smmu_wizard_value(reply, " data=")))
        return smmu_wizard_bytes(s, value, data, size);
    return 0;
}

#endif
