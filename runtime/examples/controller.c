/* A controller in C that asks the local server for the verdict on one raw frame.
 *
 *     ssn-edge run --listen unix:/run/ssn-edge.sock        (in another terminal)
 *     cc -std=c11 -O2 -Wall -Wextra -Werror controller.c -o controller
 *     ./controller /run/ssn-edge.sock frame.raw 480 640 3 200
 *
 * frame.raw holds uint8 pixels, row by row without padding: HEIGHT x WIDTH x CHANNELS, 3 channels
 * are blue, green, red. The last argument is the time limit in milliseconds, for everything.
 *
 * Prints "pass" and exits with 0 on an explicit pass, and on nothing else: fail, unknown, a server
 * that is dead, slow or talks nonsense, all print "reject" with the cause and exit with 1.
 *
 * Plain sockets on purpose: nothing to install, and all that a PLC's or a robot's C compiler needs.
 * `inspect_frame` is what to copy. It makes a connection for each part (0.15 ms): on a kept one, the
 * late answer to a part that was given up could be taken for the next part's. */

#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PASS_CODE = 0x5AA5, MAX_ANSWER = 1 << 20 };

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now); /* never set back, unlike the wall clock */
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until the socket can be read or written; false when the time is over. */
static bool ready(int fd, short events, int64_t until_ms)
{
    for (;;) {
        int64_t left_ms = until_ms - now_ms();
        if (left_ms <= 0)
            return false;
        struct pollfd one = {.fd = fd, .events = events, .revents = 0};
        int found = poll(&one, 1, (int)left_ms);
        if (found > 0)
            return true;
        if (found < 0 && errno != EINTR)
            return false;
    }
}

static bool send_all(int fd, const void *data, size_t size, int64_t until_ms)
{
    const char *next = data;
    while (size > 0) {
        ssize_t sent = send(fd, next, size, MSG_NOSIGNAL);
        if (sent > 0) {
            next += sent;
            size -= (size_t)sent;
        } else if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (!ready(fd, POLLOUT, until_ms))
                return false;
        } else if (sent == 0 || errno != EINTR) {
            return false;
        }
    }
    return true;
}

/* Reads to the end of the connection; false if the time is over before, or there is too much. */
static bool read_all(int fd, char *answer, size_t room, int64_t until_ms)
{
    size_t got = 0;
    for (;;) {
        if (got + 1 >= room || now_ms() >= until_ms)
            return false;
        ssize_t more = recv(fd, answer + got, room - 1 - got, 0);
        if (more > 0) {
            got += (size_t)more;
        } else if (more == 0) {
            answer[got] = '\0';
            return strlen(answer) == got; /* no answer has a zero byte */
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (!ready(fd, POLLIN, until_ms))
                return false;
        } else if (errno != EINTR) {
            return false;
        }
    }
}

/* A pass is status 200, a body of the stated length, this part's id, and the code of a pass. */
static bool says_pass(const char *answer, const char *part_id)
{
    char wanted[192];
    const char *length, *body = strstr(answer, "\r\n\r\n");
    if (strncmp(answer, "HTTP/1.1 200 ", 13) != 0 || body == NULL)
        return false;
    length = strstr(answer, "\r\nContent-Length: ");
    if (length == NULL || length > body)
        return false;
    body += 4;
    if (strtoul(length + 18, NULL, 10) != strlen(body) || body[0] != '{' ||
        body[strlen(body) - 1] != '}')
        return false;
    /* A quote within a text is escaped, so that these names can stand for nothing else. */
    snprintf(wanted, sizeof wanted, "\"part_id\": \"%s\"", part_id);
    if (strstr(body, wanted) == NULL)
        return false;
    snprintf(wanted, sizeof wanted, "\"verdict_code\": %d,", PASS_CODE);
    return strstr(body, wanted) != NULL;
}

/* Asks for a verdict; true on an explicit pass, in time. `part_id` has letters and digits, 64 at
 * most. `answer` keeps what the server said, or is empty. */
bool inspect_frame(const char *socket_path, const uint8_t *pixels, unsigned height, unsigned width,
                   unsigned channels, const char *part_id, int timeout_ms, char *answer,
                   size_t answer_room)
{
    int64_t until_ms = now_ms() + timeout_ms;
    size_t size = (size_t)height * width * channels;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char head[512];
    bool is_pass = false;

    answer[0] = '\0';
    if (strlen(socket_path) >= sizeof address.sun_path || strlen(part_id) > 64)
        return false;
    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    /* The server is given the limit, too, so that it gives up what nobody waits for. */
    snprintf(head, sizeof head,
             "POST /v1/inspect?height=%u&width=%u&channels=%u&part_id=%s&deadline_ms=%d HTTP/1.1\r\n"
             "Host: localhost\r\nContent-Type: application/octet-stream\r\n"
             "Content-Length: %zu\r\nConnection: close\r\n\r\n",
             height, width, channels, part_id, timeout_ms, size);

    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0)
        return false;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) == 0 &&
        connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        send_all(fd, head, strlen(head), until_ms) && send_all(fd, pixels, size, until_ms))
        is_pass = read_all(fd, answer, answer_room, until_ms) && says_pass(answer, part_id);
    close(fd);
    return is_pass && now_ms() < until_ms;
}

static uint8_t *read_frame(const char *path, size_t size)
{
    uint8_t *pixels = malloc(size + 1);
    FILE *file = fopen(path, "rb");
    /* One byte more would be another frame's size. */
    if (pixels != NULL && (file == NULL || fread(pixels, 1, size + 1, file) != size)) {
        free(pixels);
        pixels = NULL;
    }
    if (file != NULL)
        fclose(file);
    return pixels;
}

int main(int count, char **values)
{
    if (count != 7) {
        fprintf(stderr, "usage: %s SOCKET FRAME.raw HEIGHT WIDTH CHANNELS TIMEOUT_MS\n", values[0]);
        return 2;
    }
    unsigned height = (unsigned)strtoul(values[3], NULL, 10);
    unsigned width = (unsigned)strtoul(values[4], NULL, 10);
    unsigned channels = (unsigned)strtoul(values[5], NULL, 10);
    int timeout_ms = atoi(values[6]);
    if (height == 0 || height > 65536 || width == 0 || width > 65536 ||
        (channels != 1 && channels != 3) || timeout_ms < 1 || timeout_ms > 60000) {
        fprintf(stderr, "sides are 1 to 65536, channels 1 or 3, the time limit 1 to 60000 ms\n");
        return 2;
    }
    uint8_t *pixels = read_frame(values[2], (size_t)height * width * channels);
    char *answer = malloc(MAX_ANSWER);
    if (pixels == NULL || answer == NULL) {
        printf("reject: %s does not hold such a frame\n", values[2]);
        free(pixels);
        free(answer);
        return 1;
    }
    char part_id[32];
    snprintf(part_id, sizeof part_id, "part%lld", (long long)now_ms());
    bool is_pass = inspect_frame(values[1], pixels, height, width, channels, part_id, timeout_ms,
                                 answer, MAX_ANSWER);
    if (is_pass) {
        printf("pass\n");
    } else {
        const char *body = strstr(answer, "\r\n\r\n");
        printf("reject: %s\n", body != NULL ? body + 4 : "no answer in time");
    }
    free(pixels);
    free(answer);
    return is_pass ? 0 : 1;
}
