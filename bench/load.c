/* SPDX-License-Identifier: MIT
 *
 * A load for an iSCSI target: reads or writes of one size, at random or in sequence, so
 * many at a time, for so many seconds, by libiscsi.  Prints the commands done, the
 * seconds they took, and the median and 99th percentile of their latency in microseconds.
 *
 *     load URL read|write random|sequential BYTES DEPTH SECONDS [MEGABYTES]
 *
 * MEGABYTES limits the part of the LUN that is used.
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

static struct iscsi_context *iscsi;
static int lun, writing, at_random, blocks, in_flight;
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

struct request {
    double began;
    struct scsi_iovec iov;
    unsigned char *buffer;
};

static void submit(struct request *request);

static void finished(struct iscsi_context *context, int status, void *command, void *data_)
{
    struct request *request = data_;
    (void)context;
    if (status != SCSI_STATUS_GOOD) {
        fprintf(stderr, "status %d: %s\n", status, iscsi_get_error(iscsi));
        exit(1);
    }
    if (done < MOST)
        latency[done] = (float)((now() - request->began) * 1e6);
    done++;
    scsi_free_scsi_task(command);
    in_flight--;
    if (now() < end)
        submit(request);
}

static void submit(struct request *request)
{
    struct scsi_task *task;
    uint64_t lba;
    uint32_t bytes = blocks * block_size;
    if (at_random) {
        lba = random_number() % (area / blocks) * blocks;
    } else {
        lba = next_lba;
        next_lba += blocks;
        if (next_lba + blocks > area)
            next_lba = 0;
    }
    request->began = now();
    if (writing)
        task = iscsi_write16_task(iscsi, lun, lba, data, bytes, block_size,
                                  0, 0, 0, 0, 0, finished, request);
    else
        task = iscsi_read16_task(iscsi, lun, lba, bytes, block_size,
                                 0, 0, 0, 0, 0, finished, request);
    if (task == NULL) {
        fprintf(stderr, "cannot queue: %s\n", iscsi_get_error(iscsi));
        exit(1);
    }
    if (!writing) {
        /* Straight into a buffer: what libiscsi would allocate costs more than we do. */
        request->iov.iov_base = request->buffer;
        request->iov.iov_len = bytes;
        scsi_task_set_iov_in(task, &request->iov, 1);
    }
    in_flight++;
}

static int ascending(const void *one, const void *other)
{
    float a = *(const float *)one, b = *(const float *)other;
    return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
    struct iscsi_url *url;
    struct scsi_task *task;
    struct scsi_readcapacity16 *capacity;
    struct request *requests;
    double began, took;
    int depth, i;
    uint64_t counted;

    if (argc < 7) {
        fprintf(stderr, "load URL read|write random|sequential BYTES DEPTH SECONDS"
                        " [MEGABYTES]\n");
        return 2;
    }
    writing = !strcmp(argv[2], "write");
    at_random = !strcmp(argv[3], "random");
    depth = atoi(argv[5]);
    iscsi = iscsi_create_context("iqn.2026-11.org.scstd:load");
    url = iscsi_parse_full_url(iscsi, argv[1]);
    if (url == NULL) {
        fprintf(stderr, "%s\n", iscsi_get_error(iscsi));
        return 2;
    }
    iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_header_digest(iscsi, ISCSI_HEADER_DIGEST_NONE);
    iscsi_set_targetname(iscsi, url->target);
    lun = url->lun;
    if (iscsi_full_connect_sync(iscsi, url->portal, lun)) {
        fprintf(stderr, "%s\n", iscsi_get_error(iscsi));
        return 1;
    }
    task = iscsi_readcapacity16_sync(iscsi, lun);
    if (task == NULL || task->status != SCSI_STATUS_GOOD
        || (capacity = scsi_datain_unmarshall(task)) == NULL) {
        fprintf(stderr, "READ CAPACITY(16): %s\n", iscsi_get_error(iscsi));
        return 1;
    }
    block_size = capacity->block_length;
    area = capacity->returned_lba + 1;
    blocks = atoi(argv[4]) / block_size;
    if (argc > 7 && area > (uint64_t)atoi(argv[7]) * 1048576 / block_size)
        area = (uint64_t)atoi(argv[7]) * 1048576 / block_size;
    data = malloc(blocks * block_size);
    memset(data, 0x5a, blocks * block_size);
    latency = malloc(MOST * sizeof(float));
    requests = calloc(depth, sizeof(*requests));
    began = now();
    end = began + atof(argv[6]);
    for (i = 0; i < depth; i++) {
        requests[i].buffer = malloc(blocks * block_size);
        submit(&requests[i]);
    }
    while (in_flight) {
        struct pollfd fd = {
            .fd = iscsi_get_fd(iscsi),
            .events = iscsi_which_events(iscsi),
        };
        if (poll(&fd, 1, 10000) <= 0) {
            fprintf(stderr, "no answer in 10 s\n");
            return 1;
        }
        if (iscsi_service(iscsi, fd.revents) < 0) {
            fprintf(stderr, "%s\n", iscsi_get_error(iscsi));
            return 1;
        }
    }
    took = now() - began;
    counted = done < MOST ? done : MOST;
    qsort(latency, counted, sizeof(float), ascending);
    printf("%llu %.6f %.1f %.1f\n", (unsigned long long)done, took,
           latency[counted / 2], latency[counted * 99 / 100]);
    iscsi_logout_sync(iscsi);
    return 0;
}
