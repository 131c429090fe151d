/*
 * The floor every ratio is taken against: the system calls a WebSocket server cannot avoid, and
 * next to nothing else.
 *
 * Level-triggered epoll, one loop per thread, one thread unless --threads says otherwise. Accept is
 * accept4 + EPOLL_CTL_ADD. A message is one recv() and one send(), unmasked and given its reply
 * header in the read buffer itself. A broadcast is one send() for each connection. No timers, no
 * limits per client, no fragments, no UTF-8 check.
 *
 * Memory for each connection is one byte of state. Only what arrived in part, or could not be sent
 * in full, is copied to the heap, and freed as soon as it has been used.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BUFFER (1 << 20)  /* bytes; also the limit of one message */
#define UNSENT_LIMIT (1 << 20) /* bytes a client may be behind before it is closed */
#define HEAD_LIMIT 8192        /* bytes of an upgrade request */
#define EVENTS 512             /* taken by one epoll_wait */
#define MAX_THREADS 64

/* The state byte of a connection: one phase, and two flags for what lies on the heap. */
enum { CLOSED, UPGRADING, ECHO, BROADCAST, PHASE = 3, HAS_INPUT = 4, HAS_UNSENT = 8 };

struct bytes {
    size_t length;
    char data[];
};

/* A broadcast on its way to another loop; the frame is freed by the loop that takes it last. */
struct frame {
    int references;
    size_t length;
    char data[];
};

struct loop {
    int epoll, listener, wakeup, top; /* top: the highest descriptor ever accepted here */
    uint8_t *state;                   /* by descriptor */
    struct bytes **input, **unsent;   /* by descriptor; touched only when the flag is set */
    char *buffer;
    /* Guarded by lock. */
    pthread_mutex_t lock;
    struct frame **mail;
    size_t mails, mail_room;
};

static struct loop loops[MAX_THREADS];
static int threads = 1;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void *need(void *memory) {
    if (!memory) die("floor: memory");
    return memory;
}

/* ---- SHA-1 and base64, for the accept key only (RFC 6455 section 4.2.2) ---- */

static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1_block(uint32_t h[5], const uint8_t *block) {
    uint32_t w[80];
    for (int i = 0; i < 16; i++) {
        memcpy(&w[i], block + 4 * i, 4);
        w[i] = __builtin_bswap32(w[i]);
    }
    for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20) f = (b & c) | (~b & d), k = 0x5a827999;
        else if (i < 40) f = b ^ c ^ d, k = 0x6ed9eba1;
        else if (i < 60) f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
        else f = b ^ c ^ d, k = 0xca62c1d6;
        uint32_t next = rotate(a, 5) + f + e + k + w[i];
        e = d, d = c, c = rotate(b, 30), b = a, a = next;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

/* Writes the 28 characters that answer a key of 24. */
static void accept_key(const char *key, char *out) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t message[128] = {0}, sum[21] = {0}; /* 24 + 36 characters, padded to two blocks */
    memcpy(message, key, 24);
    memcpy(message + 24, guid, 36);
    message[60] = 0x80;
    message[126] = 480 >> 8;
    message[127] = 480 & 255;
    sha1_block(h, message);
    sha1_block(h, message + 64);
    for (int i = 0; i < 5; i++) {
        uint32_t word = __builtin_bswap32(h[i]);
        memcpy(sum + 4 * i, &word, 4);
    }
    for (int i = 0; i < 7; i++) {
        uint32_t three = sum[3 * i] << 16 | sum[3 * i + 1] << 8 | sum[3 * i + 2];
        for (int j = 0; j < 4; j++) out[4 * i + j] = digits[three >> (18 - 6 * j) & 63];
    }
    out[27] = '=';
}

/* ---- connections ---- */

static void drop(struct bytes **table, int fd) {
    free(table[fd]);
    table[fd] = NULL;
}

static void close_connection(struct loop *l, int fd) {
    if (l->state[fd] & HAS_INPUT) drop(l->input, fd);
    if (l->state[fd] & HAS_UNSENT) drop(l->unsent, fd);
    l->state[fd] = CLOSED;
    close(fd);
}

static void watch(struct loop *l, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(l->epoll, EPOLL_CTL_MOD, fd, &event)) die("floor: epoll_ctl");
}

/* Keeps what the socket did not take, and asks to be told when it takes more. */
static int keep_unsent(struct loop *l, int fd, const char *data, size_t length) {
    size_t before = l->state[fd] & HAS_UNSENT ? l->unsent[fd]->length : 0;
    if (before + length > UNSENT_LIMIT) {
        close_connection(l, fd);
        return -1;
    }
    struct bytes *kept = need(realloc(l->unsent[fd], sizeof *kept + before + length));
    memcpy(kept->data + before, data, length);
    kept->length = before + length;
    l->unsent[fd] = kept;
    if (!before) watch(l, fd, EPOLLIN | EPOLLOUT);
    l->state[fd] |= HAS_UNSENT;
    return 0;
}

/* Sends, or keeps. -1: the connection is closed. */
static int transmit(struct loop *l, int fd, const char *data, size_t length) {
    if (l->state[fd] & HAS_UNSENT) return keep_unsent(l, fd, data, length);
    ssize_t sent = send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent == (ssize_t)length) return 0;
    if (sent < 0 && errno != EAGAIN) {
        close_connection(l, fd);
        return -1;
    }
    if (sent < 0) sent = 0;
    return keep_unsent(l, fd, data + sent, length - sent);
}

static void send_kept(struct loop *l, int fd) {
    struct bytes *kept = l->unsent[fd];
    ssize_t sent = send(fd, kept->data, kept->length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
        if (errno != EAGAIN) close_connection(l, fd);
        return;
    }
    kept->length -= sent;
    if (kept->length) {
        memmove(kept->data, kept->data + sent, kept->length);
        return;
    }
    drop(l->unsent, fd);
    l->state[fd] &= ~HAS_UNSENT;
    watch(l, fd, EPOLLIN);
}

/* ---- the upgrade ---- */

/* Bytes used, 0 when the head is not whole yet, -1 when the connection is closed. */
static ssize_t upgrade(struct loop *l, int fd, char *data, size_t length) {
    static const char name[] = "\r\nSec-WebSocket-Key: ";
    char reply[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   "Sec-WebSocket-Accept: ============================\r\n\r\n";
    char *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end) {
        if (length < HEAD_LIMIT) return 0;
        close_connection(l, fd);
        return -1;
    }
    char *key = NULL;
    for (char *line = data; line && line < end; line = memmem(line + 2, end - line - 2, "\r\n", 2)) {
        if (end - line < (ptrdiff_t)sizeof name - 1 + 24) break;
        if (!strncasecmp(line, name, sizeof name - 1)) {
            key = line + sizeof name - 1;
            break;
        }
    }
    if (!key || strncmp(data, "GET /", 5)) {
        close_connection(l, fd);
        return -1;
    }
    int phase = !strncmp(data + 4, "/broadcast", 10) ? BROADCAST : ECHO;
    l->state[fd] = phase | (l->state[fd] & ~PHASE);
    accept_key(key, reply + sizeof reply - 1 - 4 - 28);
    if (transmit(l, fd, reply, sizeof reply - 1)) return -1;
    return end + 4 - data;
}

/* ---- frames ---- */

static void unmask(char *payload, size_t length, uint32_t mask) {
    uint64_t wide = (uint64_t)mask << 32 | mask, word;
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        memcpy(&word, payload + i, 8);
        word ^= wide;
        memcpy(payload + i, &word, 8);
    }
    for (; i < length; i++) payload[i] ^= mask >> 8 * (i & 3);
}

static void broadcast_here(struct loop *l, const char *frame, size_t length) {
    for (int fd = 0; fd <= l->top; fd++)
        if ((l->state[fd] & PHASE) == BROADCAST) transmit(l, fd, frame, length);
}

static void broadcast(struct loop *l, const char *data, size_t length) {
    if (threads > 1) {
        struct frame *shared = need(malloc(sizeof *shared + length));
        shared->references = threads - 1;
        shared->length = length;
        memcpy(shared->data, data, length);
        for (struct loop *other = loops; other < loops + threads; other++) {
            if (other == l) continue;
            pthread_mutex_lock(&other->lock);
            if (other->mails == other->mail_room) {
                other->mail_room = other->mail_room * 2 + 16;
                other->mail = need(realloc(other->mail, other->mail_room * sizeof *other->mail));
            }
            other->mail[other->mails++] = shared;
            pthread_mutex_unlock(&other->lock);
            eventfd_write(other->wakeup, 1);
        }
    }
    broadcast_here(l, data, length);
}

static void take_mail(struct loop *l) {
    eventfd_t count;
    eventfd_read(l->wakeup, &count);
    pthread_mutex_lock(&l->lock);
    struct frame **mail = l->mail;
    size_t mails = l->mails;
    l->mail = NULL;
    l->mails = l->mail_room = 0;
    pthread_mutex_unlock(&l->lock);
    for (size_t i = 0; i < mails; i++) {
        broadcast_here(l, mail[i]->data, mail[i]->length);
        if (__atomic_sub_fetch(&mail[i]->references, 1, __ATOMIC_ACQ_REL) == 0) free(mail[i]);
    }
    free(mail);
}

/* Answers one whole frame. -1: the connection is closed. */
static int answer(struct loop *l, int fd, char *data, size_t head, size_t payload) {
    uint8_t opcode = data[0] & 15;
    char *start = data + head;
    uint32_t mask;
    memcpy(&mask, start - 4, 4);
    unmask(start, payload, mask);
    uint8_t first = opcode == 9 ? 0x8a : data[0]; /* a ping becomes a pong */
    /* The reply header is 4 bytes shorter than the masked one: it fits just before the payload. */
    char *reply = start - (head - 4);
    memmove(reply + 1, data + 1, head - 5);
    reply[0] = first;
    reply[1] &= 0x7f;
    size_t length = head - 4 + payload;
    if (opcode == 10) return 0;
    if (opcode == 8) {
        if (!transmit(l, fd, reply, length)) close_connection(l, fd);
        return -1;
    }
    if (opcode == 9 || (l->state[fd] & PHASE) == ECHO) return transmit(l, fd, reply, length);
    broadcast(l, reply, length);
    return l->state[fd] == CLOSED ? -1 : 0;
}

/* Bytes used by the frame at data, 0 when it is not whole yet, -1 when the connection is closed. */
static ssize_t frame(struct loop *l, int fd, char *data, size_t length) {
    if (length < 6) return 0;
    uint8_t *b = (uint8_t *)data;
    size_t head = 6, payload = b[1] & 127;
    if (payload == 126) {
        head = 8;
        payload = b[2] << 8 | b[3];
    } else if (payload == 127) {
        if (length < 10) return 0;
        uint64_t wide;
        memcpy(&wide, data + 2, 8);
        head = 14;
        payload = __builtin_bswap64(wide);
    }
    int opcode = b[0] & 15, known = opcode == 1 || opcode == 2 || (opcode >= 8 && opcode <= 10);
    if ((b[0] & 0xf0) != 0x80 || !known || !(b[1] & 0x80) || payload > READ_BUFFER - 14) {
        close_connection(l, fd); /* a fragment, a reserved bit or opcode, no mask, or too long */
        return -1;
    }
    if (length < head + payload) return 0;
    return answer(l, fd, data, head, payload) ? -1 : (ssize_t)(head + payload);
}

static void readable(struct loop *l, int fd) {
    size_t have = 0, used = 0;
    if (l->state[fd] & HAS_INPUT) {
        have = l->input[fd]->length;
        memcpy(l->buffer, l->input[fd]->data, have);
        drop(l->input, fd);
        l->state[fd] &= ~HAS_INPUT;
    }
    ssize_t got = recv(fd, l->buffer + have, READ_BUFFER - have, 0);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            close_connection(l, fd);
            return;
        }
        got = 0;
    }
    have += got;
    while (used < have) {
        int upgrading = (l->state[fd] & PHASE) == UPGRADING;
        ssize_t n = (upgrading ? upgrade : frame)(l, fd, l->buffer + used, have - used);
        if (n < 0) return;
        if (n == 0) break;
        used += n;
    }
    if (used == have) return;
    struct bytes *rest = need(malloc(sizeof *rest + have - used));
    rest->length = have - used;
    memcpy(rest->data, l->buffer + used, rest->length);
    l->input[fd] = rest;
    l->state[fd] |= HAS_INPUT;
}

/* ---- the loop ---- */

static void accept_all(struct loop *l, int limit) {
    for (;;) {
        int fd = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return; /* nobody waits, or no descriptors: level-triggered, so asked again */
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (fd >= limit || epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event)) {
            close(fd);
            continue;
        }
        if (fd > l->top) l->top = fd;
        l->state[fd] = UPGRADING;
    }
}

static int descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) die("floor: getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit)) die("floor: setrlimit");
    return limit.rlim_cur > 1 << 24 ? 1 << 24 : (int)limit.rlim_cur;
}

static void *run(void *argument) {
    struct loop *l = argument;
    struct epoll_event events[EVENTS];
    int limit = descriptor_limit();
    for (;;) {
        int n = epoll_wait(l->epoll, events, EVENTS, -1);
        if (n < 0 && errno != EINTR) die("floor: epoll_wait");
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == l->listener) {
                accept_all(l, limit);
            } else if (fd == l->wakeup) {
                take_mail(l);
            } else {
                /* In this batch a broadcast may have closed it and an accept taken its number: so
                 * the state decides, and a recv() for nothing says EAGAIN. */
                if (events[i].events & EPOLLOUT && l->state[fd] & HAS_UNSENT) send_kept(l, fd);
                if (events[i].events & ~EPOLLOUT && l->state[fd] != CLOSED) readable(l, fd);
            }
        }
    }
    return NULL;
}

static void open_loop(struct loop *l, struct sockaddr_in *address) {
    int one = 1, limit = descriptor_limit();
    l->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(l->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (threads > 1) setsockopt(l->listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    setsockopt(l->listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* accepted sockets inherit it */
    if (bind(l->listener, (struct sockaddr *)address, sizeof *address)) die("floor: bind");
    if (listen(l->listener, 65535)) die("floor: listen");
    socklen_t size = sizeof *address;
    getsockname(l->listener, (struct sockaddr *)address, &size); /* port 0: the others take the same */
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->wakeup = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->epoll < 0 || l->wakeup < 0) die("floor: epoll");
    int own[] = {l->listener, l->wakeup};
    for (int i = 0; i < 2; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = own[i]};
        if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, own[i], &event)) die("floor: epoll_ctl");
    }
    l->state = need(calloc(limit, 1));
    l->input = need(calloc(limit, sizeof *l->input));
    l->unsent = need(calloc(limit, sizeof *l->unsent));
    l->buffer = need(malloc(READ_BUFFER));
    pthread_mutex_init(&l->lock, NULL);
}

static void usage(void) {
    fprintf(stderr, "usage: floor --address HOST:PORT [--threads N]\n");
    exit(2);
}

int main(int argc, char **argv) {
    char host[64] = "127.0.0.1";
    struct sockaddr_in address = {.sin_family = AF_INET};
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && !strcmp(argv[i], "--address")) {
            char *colon = strrchr(argv[i + 1], ':');
            if (!colon || colon - argv[i + 1] >= (ptrdiff_t)sizeof host) usage();
            memcpy(host, argv[i + 1], colon - argv[i + 1]);
            host[colon - argv[i + 1]] = 0;
            address.sin_port = htons(atoi(colon + 1));
        } else if (i + 1 < argc && !strcmp(argv[i], "--threads")) {
            threads = atoi(argv[i + 1]);
        } else {
            usage();
        }
    }
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1 || threads < 1 || threads > MAX_THREADS) usage();
    for (int i = 0; i < threads; i++) open_loop(&loops[i], &address);
    printf("ready address=%s:%d\n", host, ntohs(address.sin_port));
    fflush(stdout);
    for (int i = 1; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, run, &loops[i])) die("floor: pthread_create");
    }
    run(&loops[0]);
}
