/* Streams to thousands of connections at once, which a server in Python cannot do on one core: `many_writes MILLISECONDS
 * NEEDLE FILE [NEEDLE FILE ...]`. A request whose body contains a NEEDLE gets the writes of its FILE, one after another, so
 * many milliseconds apart. A file is a sequence of writes: four bytes of length in the machine's order, then the bytes.
 *
 * Prints its port, and ends with standard input. At the end it says on standard error how late the latest write was.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FILES = 65536, MAX_SCRIPTS = 4, MAX_SLOTS = 1000, EVENTS = 512, REQUEST = 65536 };

typedef struct { const char *needle; char *data, *end; } Script;
typedef struct { char *next, *end; unsigned epoch; } Stream;         /* what is left for a connection */
typedef struct { int file; unsigned epoch; } Turn;                   /* void if the connection is another one by now */
typedef struct { Turn *turns; size_t count, room; } Slot;            /* whose turn it is in one millisecond of the period */

static Script scripts[MAX_SCRIPTS];
static Stream streams[MAX_FILES];
static Slot slots[MAX_SLOTS];
static int script_count, period;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + 1e-9 * time.tv_nsec;
}

static void fail(const char *what) { perror(what); exit(1); }

static void load(Script *script, const char *needle, const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) fail(path);
    long size = ftell(file);
    rewind(file);
    script->needle = needle;
    script->data = malloc((size_t)size + 1);
    if (script->data == NULL || fread(script->data, 1, (size_t)size, file) != (size_t)size) fail(path);
    script->end = script->data + size;
    fclose(file);
}

static void take_turn(int file, int number) {
    Slot *slot = &slots[number];
    if (slot->count == slot->room) {
        slot->room = slot->room ? 2 * slot->room : 64;
        slot->turns = realloc(slot->turns, slot->room * sizeof *slot->turns);
        if (slot->turns == NULL) fail("realloc");
    }
    slot->turns[slot->count++] = (Turn){file, streams[file].epoch};
}

/* The next write of a connection; 0 after its last one. A client that does not read loses what does not fit. */
static int send_next(int file) {
    Stream *stream = &streams[file];
    uint32_t length;
    memcpy(&length, stream->next, sizeof length);
    stream->next += sizeof length;
    send(file, stream->next, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    stream->next += length;
    return stream->next < stream->end;
}

static void begin(int file, const char *request, int slot) {
    for (int i = 0; i < script_count; i++)
        if (strstr(request, scripts[i].needle) != NULL) {
            streams[file].next = scripts[i].data;
            streams[file].end = scripts[i].end;
            streams[file].epoch++;
            if (send_next(file)) take_turn(file, slot);
            return;
        }
}

int main(int count, char **arguments) {
    static char request[REQUEST + 1];
    if (count < 4 || count > 2 + 2 * MAX_SCRIPTS || (period = atoi(arguments[1])) < 1 || period > MAX_SLOTS) return 2;
    for (int i = 2; i + 1 < count; i += 2) load(&scripts[script_count++], arguments[i], arguments[i + 1]);

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int one = 1, door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    if (bind(door, (void *)&address, size) || listen(door, 4096) || getsockname(door, (void *)&address, &size)) fail("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        struct epoll_event wanted = {.events = EPOLLIN, .data.fd = i ? door : STDIN_FILENO};
        epoll_ctl(poll, EPOLL_CTL_ADD, wanted.data.fd, &wanted);
    }

    double next = now(), latest = 0.0;
    for (unsigned tick = 0;;) {
        struct epoll_event events[EVENTS];
        double left = 1000.0 * (next - now());
        int ready = epoll_wait(poll, events, EVENTS, left > 0.0 ? (int)left : 0);
        for (int i = 0; i < ready; i++) {
            int file = events[i].data.fd, got, new;
            if (file == STDIN_FILENO) {
                fprintf(stderr, "the latest write was %.3f s late\n", latest);
                return 0;
            }
            if (file == door) {
                while ((new = accept4(door, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = new};
                    setsockopt(new, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    epoll_ctl(poll, EPOLL_CTL_ADD, new, &wanted);
                }
            } else if ((got = (int)recv(file, request, REQUEST, 0)) > 0) {
                request[got] = 0;
                begin(file, request, (int)((tick + (unsigned)rand()) % (unsigned)period));
            } else if (got == 0 || errno != EAGAIN) {
                streams[file].epoch++;
                close(file);
            }
        }
        for (; now() >= next; tick++, next += 0.001) {
            Slot *slot = &slots[tick % (unsigned)period];
            size_t kept = 0;
            double late = now() - next;
            if (late > latest && slot->count) latest = late;
            for (size_t i = 0; i < slot->count; i++) {
                Turn turn = slot->turns[i];
                if (turn.epoch == streams[turn.file].epoch && send_next(turn.file)) slot->turns[kept++] = turn;
            }
            slot->count = kept;
        }
    }
}
