/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

#include "core/sys.h"
#include "preload/address.h"
#include "preload/endpoints.h"

/* ---- parsing: each parse_x() returns NULL, or why the entry is malformed -------------------- */

static const char *parse_port(const char *text, uint16_t *port)
{
	unsigned long value = 0;

	*port = 0;
	if (strcmp(text, "*") == 0)
		return NULL;
	for (const char *at = text; *at; at++) {
		if (*at < '0' || *at > '9' || value > 65535)
			return "the port must be a number from 1 to 65535, or *";
		value = value * 10 + (unsigned long)(*at - '0');
	}
	if (value == 0 || value > 65535)
		return "the port must be a number from 1 to 65535, or *";
	*port = (uint16_t)value;
	return NULL;
}

/* Through a sockaddr, so that a v4-mapped literal becomes the IPv4 address that it is. */
static const char *parse_ip(const char *text, int family, struct shim_endpoint *entry)
{
	static const uint8_t unspecified[16];
	struct sockaddr_storage address = { 0 };
	struct shim_tcp_end end;

	address.ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		if (inet_pton(family, text, &((struct sockaddr_in *)&address)->sin_addr) != 1)
			return "the host must be an IP address, localhost or *";
	} else if (inet_pton(family, text, &((struct sockaddr_in6 *)&address)->sin6_addr) != 1) {
		return "not an IPv6 address between the brackets";
	}
	shim_tcp_end_of(&address, &end);
	if (memcmp(end.ip, unspecified, sizeof(end.ip)) == 0)
		return "no connection has this address; write * for any";
	entry->kind = SHIM_ENDPOINT_TCP_ADDRESS;
	entry->family = end.family;
	memcpy(entry->ip, end.ip, sizeof(entry->ip));
	return NULL;
}

static const char *parse_host(char *host, struct shim_endpoint *entry)
{
	size_t bytes = strlen(host);

	if (strcmp(host, "*") == 0) {
		entry->kind = SHIM_ENDPOINT_TCP_ANY;
		return NULL;
	}
	if (strcasecmp(host, "localhost") == 0) {
		entry->kind = SHIM_ENDPOINT_TCP_LOCALHOST;
		return NULL;
	}
	if (host[0] == '[' && host[bytes - 1] == ']') {
		host[bytes - 1] = '\0';
		return parse_ip(host + 1, AF_INET6, entry);
	}
	if (strchr(host, ':'))
		return "an IPv6 address needs brackets, as in tcp:[::1]:80";
	return parse_ip(host, AF_INET, entry);
}

static const char *parse_tcp(char *text, struct shim_endpoint *entry)
{
	char *colon = strrchr(text, ':');
	const char *why;

	if (strcmp(text, "*") == 0) {
		entry->kind = SHIM_ENDPOINT_TCP_ANY;
		return NULL;
	}
	if (!colon || colon == text || strchr(colon, ']'))
		return "must be tcp:HOST:PORT, tcp:*:PORT or tcp:*";
	*colon = '\0';
	why = parse_host(text, entry);
	return why ? why : parse_port(colon + 1, &entry->port);
}

static const char *parse_unix(const char *text, struct shim_endpoint *entry)
{
	size_t bytes;

	if (strcmp(text, "*") == 0) {
		entry->kind = SHIM_ENDPOINT_UNIX_ANY;
		return NULL;
	}
	entry->kind = text[0] == '@' ? SHIM_ENDPOINT_UNIX_ABSTRACT : SHIM_ENDPOINT_UNIX_PATH;
	if (text[0] == '@')
		text++;
	bytes = strlen(text);
	if (bytes == 0)
		return "must be unix:/path, unix:@name or unix:*";
	if (bytes > SHIM_ENDPOINT_PATH_MAX - (entry->kind == SHIM_ENDPOINT_UNIX_ABSTRACT))
		return "longer than a socket name can be";
	memcpy(entry->path, text, bytes + 1);
	entry->path_bytes = (uint16_t)bytes;
	return NULL;
}

/* `text` is a scratch copy that may be cut up. */
static const char *parse_entry(char *text, struct shim_endpoint *entry)
{
	memset(entry, 0, sizeof(*entry));
	if (*text == '!') {
		entry->exclude = true;
		text += 1 + strspn(text + 1, " \t");
	}
	if (strncmp(text, "tcp:", 4) == 0)
		return parse_tcp(text + 4, entry);
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, entry);
	return "must begin with tcp: or unix:";
}

/* One entry, `bytes` long and without spaces around it, into the list. */
static void add_entry(struct shim_endpoints *list, const char *text, size_t bytes,
		      void (*complain)(const char *entry, const char *why))
{
	char copy[SHIM_ENDPOINT_ENTRY_MAX], scratch[SHIM_ENDPOINT_ENTRY_MAX];
	size_t kept = bytes < sizeof(copy) ? bytes : sizeof(copy) - 1;
	const char *why;

	memcpy(copy, text, kept);
	copy[kept] = '\0';
	memcpy(scratch, copy, kept + 1);
	if (kept < bytes)
		why = "too long";
	else if (list->count == SHIM_ENDPOINTS_MAX)
		why = "too many entries";
	else
		why = parse_entry(scratch, &list->entries[list->count]);
	if (!why)
		list->count++;
	else if (complain)
		complain(copy, why);
}

int shim_endpoints_parse(struct shim_endpoints *list, const char *text,
			 void (*complain)(const char *entry, const char *why))
{
	list->count = 0;
	while (text && *text) {
		size_t bytes, span;

		text += strspn(text, " \t");
		bytes = span = strcspn(text, ",");
		while (bytes && (text[bytes - 1] == ' ' || text[bytes - 1] == '\t'))
			bytes--;
		if (bytes) /* an empty entry, as after a last comma, does no harm */
			add_entry(list, text, bytes, complain);
		text += span + (text[span] == ',');
	}
	return (int)list->count;
}

/* ---- matching -------------------------------------------------------------------------------- */

/* The name inside a Unix address; *abstract tells its kind.  0 bytes: unnamed. */
static size_t unix_name(const struct sockaddr_storage *address, socklen_t bytes, bool *abstract,
			char name[SHIM_ENDPOINT_PATH_MAX + 1])
{
	const char *path = ((const struct sockaddr_un *)address)->sun_path;
	const size_t before = offsetof(struct sockaddr_un, sun_path);
	size_t length = bytes > before ? bytes - before : 0;

	/* The kernel reports 109 bytes for a path that fills sun_path: its own NUL. */
	if (length > SHIM_ENDPOINT_PATH_MAX)
		length = SHIM_ENDPOINT_PATH_MAX;
	*abstract = length > 0 && path[0] == '\0';
	if (*abstract) {
		path++;
		length--;
	} else {
		length = strnlen(path, length);
	}
	memcpy(name, path, length);
	name[length] = '\0';
	return length;
}

static bool same_file(const char *path, const char *other)
{
	struct stat a, b;

	/* Not libc's stat(): this runs inside hooks and must leave errno alone. */
	return sys_call6(SYS_newfstatat, AT_FDCWD, (long)path, (long)&a, 0, 0, 0) == 0 &&
	       sys_call6(SYS_newfstatat, AT_FDCWD, (long)other, (long)&b, 0, 0, 0) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Programs that give bind() all of sizeof(sockaddr_un) have a name filled up with NULs. */
static bool padded_name(const struct shim_endpoint *entry, const char *name, size_t bytes)
{
	if (bytes != SHIM_ENDPOINT_PATH_MAX - 1 ||
	    memcmp(name, entry->path, entry->path_bytes) != 0)
		return false;
	for (size_t i = entry->path_bytes; i < bytes; i++)
		if (name[i])
			return false;
	return true;
}

static bool match_unix(const struct shim_endpoint *entry, bool abstract, const char *name,
		       size_t bytes)
{
	if (entry->kind == SHIM_ENDPOINT_UNIX_ANY)
		return true;
	if (abstract != (entry->kind == SHIM_ENDPOINT_UNIX_ABSTRACT) ||
	    entry->kind < SHIM_ENDPOINT_UNIX_ANY)
		return false;
	if (bytes == entry->path_bytes && memcmp(name, entry->path, bytes) == 0)
		return true;
	if (abstract)
		return padded_name(entry, name, bytes);
	/* bind() was given a path relative to some directory, perhaps this process's own. */
	return name[0] != '/' && entry->path[0] == '/' && same_file(name, entry->path);
}

static bool match_tcp(const struct shim_endpoint *entry, const struct shim_tcp_end *end)
{
	static const uint8_t localhost4[16] = { 127, 0, 0, 1 }, localhost6[16] = { [15] = 1 };

	if (entry->port && entry->port != end->port)
		return false;
	if (entry->kind == SHIM_ENDPOINT_TCP_ANY)
		return true;
	if (entry->kind == SHIM_ENDPOINT_TCP_LOCALHOST)
		return memcmp(end->ip, end->family == 4 ? localhost4 : localhost6, 16) == 0;
	return entry->kind == SHIM_ENDPOINT_TCP_ADDRESS && entry->family == end->family &&
	       memcmp(entry->ip, end->ip, sizeof(end->ip)) == 0;
}

bool shim_endpoints_match(const struct shim_endpoints *list, const struct sockaddr_storage *address,
			  socklen_t bytes)
{
	char name[SHIM_ENDPOINT_PATH_MAX + 1];
	bool is_unix = address->ss_family == AF_UNIX, abstract = false, wanted = false;
	struct shim_tcp_end end;
	size_t name_bytes = 0;

	if (bytes < sizeof(sa_family_t) || list->count == 0)
		return false;
	if (is_unix)
		name_bytes = unix_name(address, bytes, &abstract, name);
	else if (!shim_tcp_end_of(address, &end))
		return false;
	if (is_unix && name_bytes == 0)
		return false;
	for (unsigned int i = 0; i < list->count; i++) {
		const struct shim_endpoint *entry = &list->entries[i];

		if (wanted && !entry->exclude) /* only an exclusion can still change the answer */
			continue;
		if (!(is_unix ? match_unix(entry, abstract, name, name_bytes)
			      : match_tcp(entry, &end)))
			continue;
		if (entry->exclude)
			return false;
		wanted = true;
	}
	return wanted;
}

/* ---- text ------------------------------------------------------------------------------------ */

struct writer {
	char *to;
	size_t room; /* including the NUL */
	size_t length;
	bool truncated;
};

/* All of it or nothing, so that an escape is never cut in two; nothing after the first failure. */
static void put_bytes(struct writer *writer, const char *from, size_t bytes)
{
	if (writer->truncated || bytes >= writer->room - writer->length) {
		writer->truncated = true;
		return;
	}
	memcpy(writer->to + writer->length, from, bytes);
	writer->length += bytes;
	writer->to[writer->length] = '\0';
}

static void put(struct writer *writer, const char *text)
{
	put_bytes(writer, text, strlen(text));
}

static void put_number(struct writer *writer, uint32_t value)
{
	char digits[10];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	put_bytes(writer, digits + at, sizeof(digits) - at);
}

static void put_escaped(struct writer *writer, const char *from, size_t bytes)
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = 0; i < bytes; i++) {
		uint8_t byte = (uint8_t)from[i];
		char escape[4] = { '\\', 'x', hex[byte >> 4], hex[byte & 15] };

		if (byte > ' ' && byte < 127 && byte != '\\')
			put_bytes(writer, from + i, 1);
		else
			put_bytes(writer, escape, sizeof(escape));
	}
}

static void put_tcp(struct writer *writer, const struct shim_tcp_end *end)
{
	char ip[INET6_ADDRSTRLEN];

	put(writer, end->family == 4 ? "tcp:" : "tcp:[");
	inet_ntop(end->family == 4 ? AF_INET : AF_INET6, end->ip, ip, sizeof(ip));
	put(writer, ip);
	if (end->scope) {
		put(writer, "%");
		put_number(writer, end->scope);
	}
	put(writer, end->family == 4 ? ":" : "]:");
	put_number(writer, end->port);
}

int shim_endpoint_text(const struct sockaddr_storage *address, socklen_t bytes, char *text,
		       size_t text_bytes)
{
	struct writer writer = { text, text_bytes, 0, false };
	char name[SHIM_ENDPOINT_PATH_MAX + 1];
	struct shim_tcp_end end;
	bool abstract;
	size_t name_bytes;

	if (text_bytes == 0)
		return -ENOSPC;
	text[0] = '\0';
	if (bytes >= sizeof(sa_family_t) && shim_tcp_end_of(address, &end)) {
		put_tcp(&writer, &end);
	} else if (bytes >= sizeof(sa_family_t) && address->ss_family == AF_UNIX) {
		name_bytes = unix_name(address, bytes, &abstract, name);
		put(&writer, abstract ? "unix:@" : "unix:");
		put_escaped(&writer, name, name_bytes);
	} else {
		put(&writer, "family:");
		put_number(&writer, bytes >= sizeof(sa_family_t) ? address->ss_family : 0);
	}
	return writer.truncated ? -ENOSPC : (int)writer.length;
}
