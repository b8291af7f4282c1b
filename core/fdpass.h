/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes with descriptors over an AF_UNIX stream.  Never blocks, never raises SIGPIPE; descriptors
 * that arrive are close-on-exec, and none that the caller has not been given stays open.
 */
#ifndef SHMIPC_CORE_FDPASS_H
#define SHMIPC_CORE_FDPASS_H

#include <stddef.h>
#include <sys/types.h>

enum { SHMIPC_FDPASS_MAX = 4 };

/*
 * The descriptors travel with the first byte, so bytes must not be 0.  The count sent may be short;
 * what is left over is sent without descriptors.  The caller keeps its own copies.
 */
ssize_t shmipc_fdpass_send(int channel_fd, const void *from, size_t bytes, const int *fds,
			   unsigned int fd_count);

/*
 * *fd_count: in, room in fds; out, descriptors received, which the caller now owns.  Returns the
 * bytes, 0 at the end of the stream, or -errno with *fd_count = 0 and nothing left open:
 * -EMSGSIZE: the peer sent more descriptors than there is room for (the bytes are gone);
 * -EMFILE: this process could not take them all (the bytes are gone); -EAGAIN; others as recvmsg.
 */
ssize_t shmipc_fdpass_receive(int channel_fd, void *to, size_t bytes, int *fds,
			      unsigned int *fd_count);

#endif
