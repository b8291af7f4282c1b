/* SPDX-License-Identifier: Apache-2.0 */
/* seccomp kill|errno COMMAND...: under a filter like those of packaged services.  kill: a netlink
 * socket and calls that no plain server makes end the process; errno: address families other than
 * Unix and IP give EAFNOSUPPORT. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF(value, then, otherwise) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, then, otherwise)
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)

int main(int count, char **arguments)
{
	unsigned int deny = count > 2 && strcmp(arguments[1], "kill") == 0
				    ? SECCOMP_RET_KILL_PROCESS
				    : SECCOMP_RET_ERRNO | EAFNOSUPPORT;
	unsigned int unusual = deny == SECCOMP_RET_KILL_PROCESS ? deny : SECCOMP_RET_ERRNO | EPERM;
	struct sock_filter filter[] = {
		LOAD(nr),
		IF(SYS_socket, 0, 6),
		LOAD(args[0]),
		IF(AF_UNIX, 3, 0),
		IF(AF_INET, 2, 0),
		IF(AF_INET6, 1, 0),
		RETURN(deny),
		RETURN(SECCOMP_RET_ALLOW),
		IF(SYS_membarrier, 7, 0),
		IF(SYS_process_vm_readv, 6, 0),
		IF(SYS_ptrace, 5, 0),
		IF(SYS_bpf, 4, 0),
		IF(SYS_userfaultfd, 3, 0),
		IF(SYS_pidfd_getfd, 2, 0),
		IF(SYS_io_uring_setup, 1, 0),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(unusual),
	};
	const struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	if (count < 3)
		return 2;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		perror("seccomp");
		return 1;
	}
	execvp(arguments[2], arguments + 2);
	perror(arguments[2]);
	return 1;
}
