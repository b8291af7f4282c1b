/* SPDX-License-Identifier: Apache-2.0 */
/* Children that run no hook before they are another program, and use what they inherit. */
#include "tests/conformance/lib/conf.h"

#include <pty.h>
#include <sched.h>
#include <spawn.h>
#include <sys/syscall.h>

enum { ANY = CONF_COLD | CONF_SWAP | CONF_EITHER };

static char sh_path[] = "/bin/sh", dash_c[] = "-c";
static char *const no_env[] = { NULL };
extern char **environ;

static pid_t spawn_sh(const char *script, posix_spawn_file_actions_t *actions, char *const env[])
{
	char *argv[] = { sh_path, dash_c, (char *)(uintptr_t)script, NULL };
	pid_t child = -1;

	obs("posix_spawn", posix_spawn(&child, sh_path, actions, NULL, argv, env));
	return child;
}

static void reap(pid_t child)
{
	int status = 0;

	waitpid(child, &status, 0);
	obs_exit("child", status);
}

/* What the client sees of all of these: a line from a child, then the parent goes on. */
static void line_then_rounds_client(int fd)
{
	char line[6] = "";

	send_pat(fd, 100, 0);
	obs("recv", recv_exact(fd, line, 6));
	obs_text("%.5s", line);
	for (uint64_t i = 0; i < 30; i++) {
		send_pat(fd, 100, i);
		recv_pat(fd, 100, i);
	}
}

static void rounds(int fd)
{
	for (uint64_t i = 0; i < 30; i++) {
		recv_pat(fd, 100, i);
		send_pat(fd, 100, i);
	}
}

/* The number is above 9, where some shells cannot redirect: a number below for the child. */
static int low_number(int fd)
{
	return fd < 9 ? fd : dup2(fd, 8);
}

static void inherited_server(int fd)
{
	char script[64];

	recv_pat(fd, 100, 0);
	snprintf(script, sizeof(script), "echo hello >&%d", low_number(fd));
	reap(spawn_sh(script, NULL, no_env));
	rounds(fd);
}
CASE("spawn.inherited", inherited_server, line_then_rounds_client, ANY);

static void inherited_env_server(int fd)
{
	char script[64];

	recv_pat(fd, 100, 0);
	snprintf(script, sizeof(script), "echo hello >&%d", low_number(fd));
	reap(spawn_sh(script, NULL, environ));
	rounds(fd);
}
CASE("spawn.inherited_with_environment", inherited_env_server, line_then_rounds_client, ANY);

static void system_server(int fd)
{
	char script[64];

	recv_pat(fd, 100, 0);
	snprintf(script, sizeof(script), "echo hello >&%d", low_number(fd));
	obs("system", system(script));
	rounds(fd);
}
CASE("spawn.system", system_server, line_then_rounds_client, ANY);

static void popen_server(int fd)
{
	char script[64];
	FILE *p;

	recv_pat(fd, 100, 0);
	snprintf(script, sizeof(script), "cat >&%d", low_number(fd));
	p = popen(script, "w");
	if (!p)
		return;
	fputs("hello\n", p);
	obs("pclose", pclose(p));
	rounds(fd);
}
CASE("spawn.popen", popen_server, line_then_rounds_client, ANY);

static void actions_server(int fd)
{
	posix_spawn_file_actions_t actions;

	recv_pat(fd, 100, 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, fd, 7);
	posix_spawn_file_actions_addclose(&actions, fd == 7 ? 6 : fd);
	reap(spawn_sh("echo hello >&7", &actions, no_env));
	posix_spawn_file_actions_destroy(&actions);
	rounds(fd);
}
CASE("spawn.dup2_and_close", actions_server, line_then_rounds_client, ANY);

/* The child does not get it: nothing changes for the connection. */
static void closed_server(int fd)
{
	posix_spawn_file_actions_t actions;
	char script[64];

	rounds(fd);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addclose(&actions, fd);
	snprintf(script, sizeof(script), "test ! -e /proc/self/fd/%d", fd);
	reap(spawn_sh(script, &actions, no_env));
	posix_spawn_file_actions_destroy(&actions);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	reap(spawn_sh(script, &actions, no_env));
	posix_spawn_file_actions_destroy(&actions);
	rounds(fd);
}

static void closed_client(int fd)
{
	for (int j = 0; j < 2; j++) {
		for (uint64_t i = 0; i < 30; i++) {
			send_pat(fd, 100, i);
			recv_pat(fd, 100, i);
		}
	}
}
CASE("spawn.closed_in_child", closed_server, closed_client, ANY);

/* Actions that nobody has destroyed say nothing of later ones at the same place. */
static void begun_anew_server(int fd)
{
	posix_spawn_file_actions_t actions;
	const int low = low_number(fd);
	char script[64];

	recv_pat(fd, 100, 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addclose(&actions, fd);
	posix_spawn_file_actions_addclose(&actions, low);
	reap(spawn_sh("exit 3", &actions, no_env));
	posix_spawn_file_actions_init(&actions);
	snprintf(script, sizeof(script), "echo hello >&%d", low);
	reap(spawn_sh(script, &actions, no_env));
	posix_spawn_file_actions_destroy(&actions);
	rounds(fd);
}
CASE("spawn.actions_begun_anew", begun_anew_server, line_then_rounds_client, ANY);

/* A long child: the parent closes, and the peer's end of stream waits for the child. */
static void outlives_server(int fd)
{
	char script[80];
	pid_t child;

	recv_pat(fd, 100, 0);
	snprintf(script, sizeof(script), "sleep 0.2; echo hello >&%d", low_number(fd));
	child = spawn_sh(script, NULL, no_env);
	close(fd);
	close(8);
	reap(child);
}

static void outlives_client(int fd)
{
	char line[6] = "", byte;

	send_pat(fd, 100, 0);
	obs("recv", recv_exact(fd, line, 6));
	obs_text("%.5s", line);
	obs("recv", recv(fd, &byte, 1, 0));
}
CASE("spawn.outlives_parent", outlives_server, outlives_client, ANY);

/* ---- _Fork, clone, daemon, vfork ---- */

static void child_line(int fd)
{
	if (send(fd, "hello\n", 6, MSG_NOSIGNAL) != 6)
		_exit(1);
	_exit(0);
}

static void underscore_fork_server(int fd)
{
	pid_t child;

	recv_pat(fd, 100, 0);
	child = _Fork();
	if (child == 0)
		child_line(fd);
	reap(child);
	rounds(fd);
}
CASE("spawn._Fork", underscore_fork_server, line_then_rounds_client, ANY);

static void underscore_fork_serves_server(int fd)
{
	pid_t child;

	recv_pat(fd, 100, 0);
	child = _Fork();
	if (child == 0) {
		send_exact(fd, "hello\n", 6);
		rounds(fd);
		_exit(0);
	}
	close(fd);
	reap(child);
}
CASE("spawn._Fork_child_serves", underscore_fork_serves_server, line_then_rounds_client, ANY);

static int close_in_clone(void *arg)
{
	close(*(int *)arg);
	_exit(0);
}

/* A child on our memory, with descriptors of its own: its close() is not ours. */
static void clone_vm_server(int fd)
{
	static char stack[65536] __attribute__((aligned(16)));
	pid_t child;

	recv_pat(fd, 100, 0);
	child = clone(close_in_clone, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, &fd);
	reap(child);
	send_exact(fd, "hello\n", 6);
	rounds(fd);
}
CASE("spawn.clone_vm_closes", clone_vm_server, line_then_rounds_client, ANY & ~CONF_EITHER);

static int serve_in_clone(void *arg)
{
	int fd = *(int *)arg;

	send_exact(fd, "hello\n", 6);
	rounds(fd);
	exit(0);
}

/* A child with memory of its own, by whatever call. */
static void clone_copy_server(int fd)
{
	static char stack[65536] __attribute__((aligned(16)));
	pid_t child;

	recv_pat(fd, 100, 0);
	fflush(stdout);
	child = clone(serve_in_clone, stack + sizeof(stack), SIGCHLD, &fd);
	close(fd);
	reap(child);
}
CASE("spawn.clone_child_serves", clone_copy_server, line_then_rounds_client, ANY);

/* Both ends of the fork write at the same time: whole records, none lost. */
enum { RECORDS = 3000, RECORD_BYTES = 64 };

static int write_records(void *arg)
{
	char record[RECORD_BYTES];
	int fd = *(int *)arg;

	memset(record, 'c', sizeof(record));
	for (int i = 0; i < RECORDS; i++)
		send_exact(fd, record, sizeof(record));
	_exit(0);
}

static void clone_both_server(int fd)
{
	static char stack[65536] __attribute__((aligned(16)));
	char record[RECORD_BYTES];
	pid_t child;

	recv_pat(fd, 100, 0);
	memset(record, 'p', sizeof(record));
	child = clone(write_records, stack + sizeof(stack), SIGCHLD, &fd);
	for (int i = 0; i < RECORDS; i++)
		send_exact(fd, record, sizeof(record));
	reap(child);
}

static void clone_both_client(int fd)
{
	char record[RECORD_BYTES];
	int of_child = 0, of_parent = 0, torn = 0;

	send_pat(fd, 100, 0);
	for (int i = 0; i < 2 * RECORDS; i++) {
		if (recv_exact(fd, record, sizeof(record)) != RECORD_BYTES)
			break;
		of_child += record[0] == 'c';
		of_parent += record[0] == 'p';
		for (int j = 1; j < RECORD_BYTES; j++)
			torn += record[j] != record[0];
	}
	obs_text("child %d parent %d torn %d", of_child, of_parent, torn);
}
CASE("spawn.clone_both_write", clone_both_server, clone_both_client, ANY);

static void raw_clone_server(int fd)
{
	pid_t child;

	recv_pat(fd, 100, 0);
	child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (child == 0)
		write_records(&fd);
	for (int i = 0; i < RECORDS; i++) {
		char record[RECORD_BYTES];

		memset(record, 'p', sizeof(record));
		send_exact(fd, record, sizeof(record));
	}
	reap(child);
}
CASE("spawn.raw_clone_both_write", raw_clone_server, clone_both_client, ANY);

/* The child of a child serves, without a terminal or a parent. */
static void daemon_server(int fd)
{
	pid_t child = fork();

	if (child == 0) {
		if (daemon(1, 1) < 0)
			_exit(1);
		recv_pat(fd, 100, 0);
		send_exact(fd, "hello\n", 6);
		rounds(fd);
		_exit(0);
	}
	close(fd);
	reap(child);
	tell(0);
	await();
}

static void daemon_client(int fd)
{
	await();
	line_then_rounds_client(fd);
	tell(0);
}
CASE("spawn.daemon", daemon_server, daemon_client, ANY);

/* The child gets a terminal, and the connection as before. */
static void forkpty_server(int fd)
{
	int terminal = -1;
	pid_t child;

	recv_pat(fd, 100, 0);
	fflush(stdout);
	child = forkpty(&terminal, NULL, NULL, NULL);
	if (child == 0) {
		char bytes[16];

		send_exact(fd, "hello\n", 6);
		for (int i = 0; i < 20; i++)
			if (recv_exact(fd, bytes, 16) != 16 || send_exact(fd, bytes, 16) != 16)
				_exit(1);
		_exit(isatty(0) ? 0 : 2);
	}
	close(fd);
	reap(child);
	close(terminal);
}

static void forkpty_client(int fd)
{
	char bytes[16];
	bool good = true;

	send_pat(fd, 100, 0);
	obs("recv", recv_exact(fd, bytes, 6));
	for (uint64_t i = 0; i < 20; i++) {
		pat_fill(bytes, 16, i * 16);
		send_exact(fd, bytes, 16);
		good = good && recv_exact(fd, bytes, 16) == 16 && pat_good(bytes, 16, i * 16);
	}
	obs_val("right", good);
	obs("recv", recv(fd, bytes, 1, 0));
}
CASE("spawn.forkpty", forkpty_server, forkpty_client, ANY);

static void vfork_exec_server(int fd)
{
	char script[64];
	char *argv[] = { sh_path, dash_c, script, NULL };
	pid_t child;

	recv_pat(fd, 100, 0);
	snprintf(script, sizeof(script), "echo hello >&%d", low_number(fd));
	child = vfork();
	if (child == 0) {
		execve(sh_path, argv, no_env);
		_exit(127);
	}
	reap(child);
	rounds(fd);
}
CASE("spawn.vfork_exec_inherited", vfork_exec_server, line_then_rounds_client, ANY);

/* The child has something else at the number: the connection is not what its program inherits. */
static void vfork_replaces_server(int fd)
{
	char *argv[] = { sh_path, dash_c, "exit 0", NULL };
	int ends[2];
	pid_t child;
	char byte;

	recv_pat(fd, 100, 0);
	obs("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	child = vfork();
	if (child == 0) {
		dup2(ends[0], fd);
		execve(sh_path, argv, no_env);
		_exit(127);
	}
	reap(child);
	obs("nothing there", recv(ends[1], &byte, 1, MSG_DONTWAIT));
	close(ends[0]);
	close(ends[1]);
	obs("send", send(fd, "hello\n", 6, 0));
	rounds(fd);
}
CASE("spawn.vfork_replaces", vfork_replaces_server, line_then_rounds_client, ANY);

static void *idle(void *until)
{
	char byte;

	return read(*(int *)until, &byte, 1) == 0 ? until : NULL;
}

/* Beside another thread, as a runtime starts programs: the child closes all and has something else
 * at the numbers. */
static void vfork_of_threads_server(int fd)
{
	int ends[2], other = dup(fd);
	pthread_t thread;
	pid_t child;

	recv_pat(fd, 100, 0);
	obs("pipe", pipe(ends));
	pthread_create(&thread, NULL, idle, &ends[0]);
	child = vfork();
	if (child == 0) {
		dup2(ends[1], other);
		dup3(ends[1], fd, O_CLOEXEC);
		close(fd);
		close(other);
		close_range(3, 1000, CLOSE_RANGE_UNSHARE);
		_exit(0);
	}
	reap(child);
	obs("send", send(other, "hello\n", 6, 0));
	rounds(fd);
	close(ends[1]);
	pthread_join(thread, NULL);
	close(ends[0]);
	close(other);
}
CASE("spawn.vfork_of_threads", vfork_of_threads_server, line_then_rounds_client, ANY);

/* A process that forks without libc's help, as some runtimes do, and only closes. */
static void raw_fork_server(int fd)
{
	pid_t child;

	recv_pat(fd, 100, 0);
#ifdef SYS_fork
	child = (pid_t)syscall(SYS_fork);
#else
	child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
	if (child == 0) {
		close(fd);
		syscall(SYS_exit_group, 0);
	}
	reap(child);
	send_exact(fd, "hello\n", 6);
	rounds(fd);
}
CASE("spawn.raw_fork_closes", raw_fork_server, line_then_rounds_client, ANY & ~CONF_EITHER);
