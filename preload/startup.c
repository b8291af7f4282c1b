/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shim's beginning and end in a process.
 *
 * Order: libc's symbols, then the environment, then memory; if anything is missing the shim stays
 * out of the way (shim_config.enabled is false, every table is empty, every entry point is libc's
 * own).
 */
#include <pthread.h>

#include "core/spin.h"
#include "core/thread.h"
#include "preload/bequest.h"
#include "preload/config.h"
#include "preload/conn.h"
#include "preload/handlers.h"
#include "preload/identity.h"
#include "preload/loaded.h"
#include "preload/log.h"
#include "preload/pins.h"
#include "preload/real.h"
#include "preload/rebind.h"
#include "preload/sets.h"
#include "preload/upgrade.h"

static bool start_modules(void)
{
	return shmipc_process_init() == 0 && shim_conn_start() == 0 && shim_pins_start() == 0 &&
	       shim_upgrade_start() == 0 && shim_sets_start() == 0 &&
	       pthread_atfork(shim_conn_before_fork, shim_conn_after_fork, shim_conn_in_child) == 0;
}

__attribute__((constructor)) static void shim_start(void)
{
	shim_real_bind();
	shim_config_read();
	if (!shim_config.enabled)
		return;
	shim_config.enabled = false;
	shmipc_spin_set_budget(shim_config.spin_us);
	shim_identity_seccomp_filtered(); /* read while it can be read */
	shim_handlers_start();
	if (!start_modules()) {
		shim_log(SHIM_LOG_ERROR, "no memory for the shim's tables: everything stays plain");
		return;
	}
	shim_loaded_start();
	shim_rebind_start();
	shim_config.enabled = true;
	shim_bequest_take();
	shim_log(SHIM_LOG_DEBUG, "pid=%d event=start", getpid());
}

__attribute__((destructor)) static void shim_end(void)
{
	shim_conn_exit_all();
}
