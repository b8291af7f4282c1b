// SPDX-License-Identifier: Apache-2.0
/* Programs that give themselves a seccomp filter for the calls that they make: read and write on
 * the connection, nothing else. */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "tests/conformance/lib/conf.h"

/* These kill; the harness's own calls are left. */
static int forbid_socket_calls(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sendto, 7, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_recvfrom, 6, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sendmsg, 5, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_recvmsg, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsockopt, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

enum { ROUNDS = 60 };

static void child_serves(int fd)
{
	char byte;
	int rounds = 0;

	obs("filter", forbid_socket_calls());
	while (rounds < ROUNDS && read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1)
		rounds++;
	_exit(rounds == ROUNDS ? 0 : 1);
}

/* As sshd does: a child under a filter serves what another process has accepted. */
static void filtered_server(int listener)
{
	int fd = conf_accept(listener);
	pid_t child = fork();
	int status = -1;

	if (child == 0)
		child_serves(fd);
	waitpid(child, &status, 0);
	obs_exit("child", status);
	close(fd);
}

static void filtered_client(int none)
{
	int fd = conf_connect();
	bool good = true;

	(void)none;

	for (int i = 0; i < ROUNDS; i++) {
		char byte = (char)i, answer = 0;

		good = good && send(fd, &byte, 1, 0) == 1 && recv(fd, &answer, 1, 0) == 1 &&
		       answer == byte;
	}
	obs_val("answers right", good);
	close(fd);
}
CASE("filter.own", filtered_server, filtered_client, CONF_RAW | CONF_NEVER);

/* One that has been used for long before, in the process that used it. */
static void late_filter_server(int fd)
{
	int status = -1;
	pid_t child;

	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
	child = fork();
	if (child == 0)
		child_serves(fd);
	waitpid(child, &status, 0);
	obs_exit("child", status);
	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
}

static void late_filter_client(int fd)
{
	bool good = true;

	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
	for (int i = 0; i < ROUNDS; i++) {
		char byte = (char)i, answer = 0;

		good = good && send(fd, &byte, 1, 0) == 1 && recv(fd, &answer, 1, 0) == 1 &&
		       answer == byte;
	}
	obs_val("answers right", good);
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
}
CASE("filter.late_and_shared", late_filter_server, late_filter_client,
     CONF_COLD | CONF_SWAP | CONF_EITHER);

static void used_server(int fd)
{
	char byte;
	int rounds = 0, status = -1;
	pid_t child = fork();

	if (child == 0) {
		recv_pat(fd, 100, 0);
		send_pat(fd, 100, 0);
		forbid_socket_calls();
		while (rounds < ROUNDS && read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1)
			rounds++;
		close(fd);
		_exit(rounds == ROUNDS ? 0 : 1);
	}
	close(fd);
	waitpid(child, &status, 0);
	obs_exit("child", status);
}

static void used_client(int fd)
{
	char byte = 0, answer;

	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
	for (int i = 0; i < ROUNDS; i++)
		if (send(fd, &byte, 1, 0) != 1 || recv(fd, &answer, 1, 0) != 1)
			break;
	obs("recv", recv(fd, &byte, 1, 0));
}
CASE("filter.late", used_server, used_client, CONF_COLD | CONF_SWAP | CONF_EITHER);
