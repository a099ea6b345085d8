/* SPDX-License-Identifier: MIT
 *
 * Preloaded, lets programs that want a SCSI generic device have a LUN of a URL: an open
 * of SGIO_DEVICE logs in to SGIO_URL, and the ioctl SG_IO on it sends the command by
 * libiscsi.  So the tools of sg3_utils judge a target without a kernel initiator.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <scsi/sg.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

static int device = -1, lun;
static struct iscsi_context *iscsi;

static int log_in(void)
{
    const char *name = getenv("SGIO_INITIATOR");
    struct iscsi_url *url;

    iscsi = iscsi_create_context(name ? name : "iqn.2026-11.org.scstd:sgio");
    url = iscsi_parse_full_url(iscsi, getenv("SGIO_URL"));
    if (!url)
        return -1;
    /* One port, whoever runs: registrations belong to it. */
    iscsi_set_isid_en(iscsi, 0x5C57, 1);
    iscsi_set_targetname(iscsi, url->target);
    iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
    lun = url->lun;
    return iscsi_full_connect_sync(iscsi, url->portal, url->lun);
}

static int opened(const char *path, int flags)
{
    const char *wanted = getenv("SGIO_DEVICE");
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");

    if (!wanted || strcmp(path, wanted))
        return -2;
    if (!iscsi && log_in()) {
        fprintf(stderr, "sgio: %s\n", iscsi_get_error(iscsi));
        errno = EIO;
        return -1;
    }
    device = real("/dev/null", flags & O_ACCMODE);
    return device;
}

#define OPEN(name)                                                                    \
    int name(const char *path, int flags, ...)                                        \
    {                                                                                 \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);                \
        int fd = opened(path, flags);                                                 \
        mode_t mode;                                                                  \
        va_list rest;                                                                 \
                                                                                      \
        if (fd != -2)                                                                 \
            return fd;                                                                \
        va_start(rest, flags);                                                        \
        mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                            \
        va_end(rest);                                                                 \
        return real(path, flags, mode);                                               \
    }

OPEN(open)
OPEN(open64)

/* What fortified programs call. */
int __open_2(const char *path, int flags)
{
    return open(path, flags);
}

int __open64_2(const char *path, int flags)
{
    return open64(path, flags);
}

static int command(struct sg_io_hdr *io)
{
    int direction = io->dxfer_direction == SG_DXFER_TO_DEV     ? SCSI_XFER_WRITE
                    : io->dxfer_direction == SG_DXFER_FROM_DEV ? SCSI_XFER_READ
                                                               : SCSI_XFER_NONE;
    int length = direction == SCSI_XFER_NONE ? 0 : io->dxfer_len;
    struct iscsi_data data = {length, io->dxferp};
    struct scsi_task *task =
        scsi_create_task(io->cmd_len, io->cmdp, direction, length);

    if (!task || !iscsi_scsi_command_sync(iscsi, lun, task,
                                          direction == SCSI_XFER_WRITE ? &data : NULL)) {
        errno = EIO;
        return -1;
    }
    io->status = io->masked_status = task->status;
    io->masked_status >>= 1;
    io->host_status = io->driver_status = 0;
    io->resid = 0;
    io->sb_len_wr = 0;
    if (direction == SCSI_XFER_READ) {
        int got = task->datain.size < length ? task->datain.size : length;
        memcpy(io->dxferp, task->datain.data, got);
        io->resid = length - got;
    }
    if (task->status == SCSI_STATUS_CHECK_CONDITION) {
        /* libiscsi keeps the SenseLength field before the sense data. */
        int got = task->datain.size > 2 ? task->datain.size - 2 : 0;
        got = got < io->mx_sb_len ? got : io->mx_sb_len;
        memcpy(io->sbp, task->datain.data + 2, got);
        io->sb_len_wr = got;
        io->driver_status = 8;
        io->resid = length;
    }
    io->info = io->status ? SG_INFO_CHECK : SG_INFO_OK;
    scsi_free_scsi_task(task);
    return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    va_list rest;
    void *argument;

    va_start(rest, request);
    argument = va_arg(rest, void *);
    va_end(rest);
    if (fd != device || device < 0)
        return real(fd, request, argument);
    if (request == SG_IO)
        return command(argument);
    if (request == SG_GET_VERSION_NUM) {
        *(int *)argument = 30536;
        return 0;
    }
    return 0;
}
