/* SPDX-License-Identifier: Apache-2.0 */
#include "tables.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char table_link[] = "/memfd:" SHMIPC_STATUS_NAME " (deleted)";

/* The name of a directory entry as a positive number, or -1. */
static int entry_number(const struct dirent *entry)
{
	char *end;
	long value;

	if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
		return -1;
	errno = 0;
	value = strtol(entry->d_name, &end, 10);
	return *end || errno || value > 0x7fffffff ? -1 : (int)value;
}

/* The last number of the line NSpid is what the process calls itself. */
static pid_t native_pid_of(pid_t pid)
{
	char path[64], line[512];
	pid_t native = pid;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return pid;
	while (fgets(line, sizeof(line), file)) {
		char *last = strncmp(line, "NSpid:", 6) == 0 ? strrchr(line, '\t') : NULL;

		if (last) {
			native = (pid_t)strtol(last + 1, NULL, 10);
			break;
		}
	}
	fclose(file);
	return native;
}

static struct table *find_known(const struct tables *tables, const struct stat *st)
{
	for (size_t i = 0; i < tables->count; i++) {
		struct table *table = &tables->list[i];

		if (table->inode == st->st_ino && table->device == st->st_dev)
			return table;
	}
	return NULL;
}

static int add_table(struct tables *tables, int fd, const struct stat *st, struct table **out)
{
	struct table *list = realloc(tables->list, (tables->count + 1) * sizeof(*list));
	struct table *table;
	int error;

	if (!list)
		return -ENOMEM;
	tables->list = list;
	table = &list[tables->count];
	memset(table, 0, sizeof(*table));
	table->device = st->st_dev;
	table->inode = st->st_ino;
	error = shmipc_status_open(&table->status, fd);
	if (error)
		return error;
	tables->count++;
	*out = table;
	return 0;
}

static int add_holder(struct table *table, pid_t pid)
{
	struct holder *holders;

	/* one process may show the same table under two descriptors */
	if (table->holder_count > 0 && table->holders[table->holder_count - 1].pid == pid)
		return 0;
	holders = realloc(table->holders, (table->holder_count + 1) * sizeof(*holders));
	if (!holders)
		return -ENOMEM;
	table->holders = holders;
	holders[table->holder_count++] = (struct holder){ pid, native_pid_of(pid) };
	return 0;
}

/* Only lack of memory is an error: anything else can be the doing of a stranger. */
static int take_descriptor(struct tables *tables, pid_t pid, int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct table *table;
	struct stat st;
	int error = 0;

	if (fd < 0)
		return 0;
	if (fstat(fd, &st) == 0) {
		table = find_known(tables, &st);
		if (!table)
			error = add_table(tables, fd, &st, &table);
		if (!error)
			error = add_holder(table, pid);
	}
	close(fd);
	return error == -ENOMEM ? error : 0;
}

static int search_process(struct tables *tables, pid_t pid)
{
	char path[64], target[sizeof(table_link) + 1];
	struct dirent *entry;
	int error = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (!dir)
		return 0;
	while (!error && (entry = readdir(dir))) {
		ssize_t n;

		if (entry_number(entry) < 0)
			continue;
		n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target));
		if (n == (ssize_t)sizeof(table_link) - 1 &&
		    memcmp(target, table_link, (size_t)n) == 0)
			error = take_descriptor(tables, pid, dirfd(dir), entry->d_name);
	}
	closedir(dir);
	return error;
}

int tables_find(struct tables *tables)
{
	struct dirent *entry;
	int error = 0;
	DIR *proc = opendir("/proc");

	*tables = (struct tables){ 0 };
	if (!proc)
		return -errno;
	while (!error && (entry = readdir(proc))) {
		int pid = entry_number(entry);

		if (pid > 0)
			error = search_process(tables, pid);
	}
	closedir(proc);
	return error;
}

void tables_free(struct tables *tables)
{
	for (size_t i = 0; i < tables->count; i++) {
		shmipc_status_close(&tables->list[i].status);
		free(tables->list[i].holders);
	}
	free(tables->list);
	*tables = (struct tables){ 0 };
}

const struct holder *table_holder(const struct table *table, pid_t native_pid)
{
	for (size_t i = 0; i < table->holder_count; i++) {
		if (table->holders[i].native_pid == native_pid)
			return &table->holders[i];
	}
	return NULL;
}
