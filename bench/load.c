/* SPDX-License-Identifier: MIT
 *
 * A load for an iSCSI target: reads, writes, or both, of one size, at random or in
 * sequence, so many at a time in each of so many sessions, for so many seconds, by
 * libiscsi.  Prints the commands done, the seconds they took, the median and 99th
 * percentile of their latency in microseconds, and what the session with the fewest has
 * done, as a part of an even share.
 *
 *     load URL READS random|sequential BYTES DEPTH SECONDS MEGABYTES SESSIONS DIGESTS
 *
 * READS is how many of a hundred commands read.  MEGABYTES limits the part of the LUN
 * that is used.  DIGESTS is none or crc32c: of headers, libiscsi 1.19 knows no others.
 */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#define MOST 4000000

static int reads, at_random, blocks;
static uint32_t block_size;
static uint64_t area, next_lba, done;
static unsigned char *data;
static double end;
static float *latency;
static uint64_t state = 88172645463325252ull;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static uint64_t random_number(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

struct session {
    struct iscsi_context *iscsi;
    int lun, in_flight;
    uint64_t done;
};

struct request {
    struct session *session;
    double began;
    struct scsi_iovec iov;
    unsigned char *buffer;
};

static void submit(struct request *request);

static void finished(struct iscsi_context *context, int status, void *command, void *data_)
{
    struct request *request = data_;
    double at = now();
    if (status != SCSI_STATUS_GOOD) {
        fprintf(stderr, "status %d: %s\n", status, iscsi_get_error(context));
        exit(1);
    }
    /* Of more than MOST the last ones count. */
    latency[done++ % MOST] = (float)((at - request->began) * 1e6);
    request->session->done++;
    scsi_free_scsi_task(command);
    request->session->in_flight--;
    if (at < end)
        submit(request);
}

static void submit(struct request *request)
{
    struct scsi_task *task;
    struct session *session = request->session;
    uint64_t lba;
    uint32_t bytes = blocks * block_size;
    int reading = reads == 100 || (reads && (int)(random_number() >> 32) % 100 < reads);
    if (at_random) {
        lba = random_number() % (area / blocks) * blocks;
    } else {
        lba = next_lba;
        next_lba += blocks;
        if (next_lba + blocks > area)
            next_lba = 0;
    }
    request->began = now();
    if (!reading)
        task = iscsi_write16_task(session->iscsi, session->lun, lba, data, bytes,
                                  block_size, 0, 0, 0, 0, 0, finished, request);
    else
        task = iscsi_read16_task(session->iscsi, session->lun, lba, bytes, block_size,
                                 0, 0, 0, 0, 0, finished, request);
    if (task == NULL) {
        fprintf(stderr, "cannot queue: %s\n", iscsi_get_error(session->iscsi));
        exit(1);
    }
    if (reading) {
        /* Straight into a buffer: what libiscsi would allocate costs more than we do. */
        request->iov.iov_base = request->buffer;
        request->iov.iov_len = bytes;
        scsi_task_set_iov_in(task, &request->iov, 1);
    }
    session->in_flight++;
}

static int ascending(const void *one, const void *other)
{
    float a = *(const float *)one, b = *(const float *)other;
    return (a > b) - (a < b);
}

static void login(struct session *session, int number, const char *where, int digests)
{
    struct iscsi_url *url;
    char name[64];
    snprintf(name, sizeof(name), "iqn.2026-11.org.scstd:load%d", number);
    session->iscsi = iscsi_create_context(name);
    /* A connection that is lost is a failure, not a pause. */
    iscsi_set_noautoreconnect(session->iscsi, 1);
    url = iscsi_parse_full_url(session->iscsi, where);
    if (url == NULL) {
        fprintf(stderr, "%s\n", iscsi_get_error(session->iscsi));
        exit(2);
    }
    iscsi_set_session_type(session->iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_header_digest(session->iscsi, digests ? ISCSI_HEADER_DIGEST_CRC32C
                                                    : ISCSI_HEADER_DIGEST_NONE);
    iscsi_set_targetname(session->iscsi, url->target);
    session->lun = url->lun;
    if (iscsi_full_connect_sync(session->iscsi, url->portal, session->lun)) {
        fprintf(stderr, "%s\n", iscsi_get_error(session->iscsi));
        exit(1);
    }
    iscsi_destroy_url(url);
}

int main(int argc, char **argv)
{
    struct scsi_task *task;
    struct scsi_readcapacity16 *capacity;
    struct session *sessions;
    struct request *requests;
    struct pollfd *fds;
    double began, took;
    int depth, count, i, left;
    uint64_t counted, fewest;

    if (argc < 10) {
        fprintf(stderr, "load URL READS random|sequential BYTES DEPTH SECONDS"
                        " MEGABYTES SESSIONS none|crc32c\n");
        return 2;
    }
    reads = atoi(argv[2]);
    at_random = !strcmp(argv[3], "random");
    depth = atoi(argv[5]);
    count = atoi(argv[8]);
    sessions = calloc(count, sizeof(*sessions));
    fds = calloc(count, sizeof(*fds));
    for (i = 0; i < count; i++)
        login(&sessions[i], i, argv[1], !strcmp(argv[9], "crc32c"));
    task = iscsi_readcapacity16_sync(sessions[0].iscsi, sessions[0].lun);
    if (task == NULL || task->status != SCSI_STATUS_GOOD
        || (capacity = scsi_datain_unmarshall(task)) == NULL) {
        fprintf(stderr, "READ CAPACITY(16): %s\n", iscsi_get_error(sessions[0].iscsi));
        return 1;
    }
    block_size = capacity->block_length;
    area = capacity->returned_lba + 1;
    blocks = atoi(argv[4]) / block_size;
    if (area > (uint64_t)atoi(argv[7]) * 1048576 / block_size)
        area = (uint64_t)atoi(argv[7]) * 1048576 / block_size;
    data = malloc(blocks * block_size);
    memset(data, 0x5a, blocks * block_size);
    latency = malloc(MOST * sizeof(float));
    requests = calloc(count * depth, sizeof(*requests));
    began = now();
    end = began + atof(argv[6]);
    for (i = 0; i < count * depth; i++) {
        requests[i].session = &sessions[i / depth];
        requests[i].buffer = malloc(blocks * block_size);
        submit(&requests[i]);
    }
    do {
        left = 0;
        for (i = 0; i < count; i++) {
            fds[i].fd = iscsi_get_fd(sessions[i].iscsi);
            fds[i].events = iscsi_which_events(sessions[i].iscsi);
            fds[i].revents = 0;
            left += sessions[i].in_flight;
        }
        if (!left)
            break;
        if (poll(fds, count, 10000) <= 0) {
            fprintf(stderr, "no answer in 10 s\n");
            return 1;
        }
        for (i = 0; i < count; i++)
            if (fds[i].revents
                && iscsi_service(sessions[i].iscsi, fds[i].revents) < 0) {
                fprintf(stderr, "%s\n", iscsi_get_error(sessions[i].iscsi));
                return 1;
            }
    } while (1);
    took = now() - began;
    counted = done < MOST ? done : MOST;
    qsort(latency, counted, sizeof(float), ascending);
    fewest = done;
    for (i = 0; i < count; i++)
        if (sessions[i].done < fewest)
            fewest = sessions[i].done;
    printf("%llu %.6f %.1f %.1f %.3f\n", (unsigned long long)done, took,
           latency[counted / 2], latency[counted * 99 / 100],
           (double)fewest * count / done);
    for (i = 0; i < count; i++)
        iscsi_logout_sync(sessions[i].iscsi);
    return 0;
}
