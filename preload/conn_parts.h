/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the connection record share, and nobody else includes. */
#ifndef SHMIPC_PRELOAD_CONN_PARTS_H
#define SHMIPC_PRELOAD_CONN_PARTS_H

#include "preload/conn.h"

/* ---- conn_records.c ---- */

/* By record: numbers of this process; private memory. */
extern _Atomic uint32_t *shim_conn_descriptors;

/* Records at and above were never used in this family of processes. */
uint32_t shim_conn_touched(void);
/* A free record, or NULL. */
struct shim_conn *shim_conn_take_record(void);
void shim_conn_give_record_back(struct shim_conn *conn);
/* Every record of which this process has a number. */
void shim_conn_for_each_held(void (*visit)(struct shim_conn *conn));

/* ---- conn_status.c ---- */

/* The connection's row in the table that observers read. */
void shim_conn_fill_row(struct shim_conn *conn, int fd, const struct shim_verdict *verdict);

/* ---- conn_end.c ---- */

/* The end of a connection that this process has alone and that never grew up (young.h). */
bool shim_conn_end_young(struct shim_conn *conn);

/* Locked: the last holder closes it by this number. */
void shim_conn_end_stream(struct shim_conn *conn, int fd);

/* ---- holders.c ---- */

int shim_holders_start(void);
/* This process, without a system call. */
int shim_process_id(void);

#endif
