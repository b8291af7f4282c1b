/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/handlers.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <ucontext.h>

#include "core/gone.h"
#include "core/lock.h"
#include "core/postpone.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/config.h"
#include "preload/conn.h"
#include "preload/identity.h"
#include "preload/pointers.h"
#include "preload/real.h"
#include "preload/sets.h"

enum { SIGNALS = 65, KERNEL_SET_BYTES = 8 };

/* As the system calls have it. */
struct kernel_action {
	uintptr_t handler;
	unsigned long flags;
	uintptr_t restorer;
	uint64_t mask;
};

typedef void (*handler)(int signo, siginfo_t *info, void *context);

/* What the application has set.  Changed with the lock held, so this thread's signals wait; another
 * thread's finds the old handler or the new one, as it would in the kernel. */
static struct handled {
	_Atomic(handler) handler;
	_Atomic bool wants_info; /* it was set with SA_SIGINFO */
	_Atomic bool restarts;
} table[SIGNALS];

static struct shmipc_lock table_lock;
static uint32_t table_lock_generation;

/* The one that waits. */
static __thread struct {
	siginfo_t info;
	uint64_t mask; /* of the thread, before all were blocked */
} late __attribute__((tls_model("initial-exec")));

/* ---- when a signal comes ---- */

static bool is_fault(int signo)
{
	return signo == SIGSEGV || signo == SIGBUS || signo == SIGFPE || signo == SIGILL ||
	       signo == SIGTRAP || signo == SIGSYS || signo == SIGABRT;
}

static uint64_t bit(int signo)
{
	return 1ULL << (signo - 1);
}

static bool is_handler(sighandler_t disposition)
{
	return disposition != SIG_DFL && disposition != SIG_IGN && disposition != SIG_ERR &&
	       disposition != SIG_HOLD;
}

/* Not the faults, and not the two by which libc cancels threads and changes their ids. */
static uint64_t blockable(void)
{
	uint64_t all = ~(bit(32) | bit(33));

	for (int signo = 1; signo < SIGNALS; signo++)
		if (is_fault(signo))
			all &= ~bit(signo);
	return all;
}

/* The application's handler may call us, and jump away. */
static void run(int signo, siginfo_t *info, void *context)
{
	struct handled *h = &table[signo];
	bool interrupted = shmipc_postpone.interrupted;
	struct shim_set *asleep = shim_set_get_up();
	uint32_t process = shmipc_process_generation();
	uintptr_t outer_frame = shmipc_postpone.handler_frame;

	shmipc_postpone.handler_frame = (uintptr_t)__builtin_frame_address(0);
	if (!atomic_load(&h->restarts))
		interrupted = true;
	if (signo == SIGCHLD)
		shmipc_heard_of_an_end();
	atomic_load (&h->handler)(signo, info, context);
	if (asleep && process == shmipc_process_generation())
		shim_set_was_interrupted(asleep);
	shmipc_postpone.ran = true;
	shmipc_postpone.interrupted = interrupted;
	shmipc_postpone.handler_frame = outer_frame;
}

/* The mask of the interrupted context is the one that the kernel restores when we return. */
static void put_off(const siginfo_t *info, ucontext_t *context)
{
	uint64_t blocked = blockable();

	late.info = *info;
	memcpy(&late.mask, &context->uc_sigmask, sizeof(late.mask));
	blocked |= late.mask;
	memcpy(&context->uc_sigmask, &blocked, sizeof(blocked));
	shmipc_postpone.waiting = true;
}

static void came(int signo, siginfo_t *info, void *context)
{
	if (shmipc_postpone.depth > 0 && !is_fault(signo))
		put_off(info, context);
	else
		run(signo, info, context);
}

static void set_mask(uint64_t mask)
{
	sys_call6(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, KERNEL_SET_BYTES, 0, 0);
}

static int ask_action(int signo, struct kernel_action *action)
{
	return (int)sys_call6(SYS_rt_sigaction, signo, 0, (long)action, KERNEL_SET_BYTES, 0, 0);
}

static int set_action(int signo, const struct kernel_action *action)
{
	return (int)sys_call6(SYS_rt_sigaction, signo, (long)action, 0, KERNEL_SET_BYTES, 0, 0);
}

/* SA_RESETHAND: it was taken away when the kernel called us, and will be again. */
static void restore_reset_handler(int signo)
{
	struct kernel_action action;

	if (ask_action(signo, &action) < 0 || !(action.flags & SA_RESETHAND) ||
	    action.handler != (uintptr_t)SIG_DFL)
		return;
	action.handler = (uintptr_t)came;
	set_action(signo, &action);
}

/* The system calls that we should need may kill us: not by the hand of the kernel then. */
static void deliver_by_hand(int signo, siginfo_t *info, uint64_t mask)
{
	ucontext_t here;

	getcontext(&here);
	set_mask(mask | bit(signo));
	run(signo, info, &here);
	set_mask(mask);
}

/* The context that the handler gets is a later one of the same call. */
static void deliver(void)
{
	siginfo_t info = late.info;
	uint64_t mask = late.mask;

	shmipc_postpone.waiting = false;
	if (shim_identity_seccomp_filtered()) {
		deliver_by_hand(info.si_signo, &info, mask);
		return;
	}
	restore_reset_handler(info.si_signo);
	sys_call6(SYS_rt_tgsigqueueinfo, sys_getpid(), sys_gettid(), info.si_signo, (long)&info, 0,
		  0);
	set_mask(mask);
}

/* Which of those that were set around us has run is not known: the kernel tells what is set. */
static bool unseen_restart(void)
{
	struct kernel_action action;
	bool some = false;

	if (shim_identity_seccomp_filtered())
		return false;
	for (int signo = 1; signo < SIGNALS; signo++) {
		if (ask_action(signo, &action) < 0 || action.handler == (uintptr_t)came ||
		    !is_handler((sighandler_t)action.handler))
			continue;
		if (!(action.flags & SA_RESTART))
			return false;
		some = true;
	}
	return some;
}

void shim_handlers_start(void)
{
	shmipc_postpone_use(deliver, unseen_restart);
}

void shim_handlers_in_child(void)
{
	if (shmipc_postpone_in_child())
		set_mask(late.mask);
}

/* ---- when a handler is set ---- */

static void begin(void)
{
	uint32_t now = shmipc_process_generation();

	if (table_lock_generation != now)
		atomic_store(&table_lock.owner, 0);
	table_lock_generation = now;
	shmipc_lock_take(&table_lock, false);
}

static void end(void)
{
	shmipc_lock_drop(&table_lock, false);
}

/* A child that runs on our memory has handlers of its own, but no table of its own. */
static bool is_ours(int signo)
{
	return shim_config.enabled && signo > 0 && signo < SIGNALS && !shim_process_is_borrowed();
}

/* One is called with three arguments whatever it takes. */
static handler with_info(sighandler_t simple)
{
	return (handler)(void (*)(void))simple;
}

static sighandler_t without_info(handler full)
{
	return (sighandler_t)(void (*)(void))full;
}

static void note(int signo, handler chosen, unsigned long flags)
{
	struct handled *h = &table[signo];

	atomic_store(&h->handler, chosen);
	atomic_store(&h->wants_info, flags & SA_SIGINFO);
	atomic_store(&h->restarts, flags & SA_RESTART);
	shmipc_postpone_expect_handlers();
}

static void show(struct sigaction *action, const struct handled *was)
{
	if (action->sa_sigaction != came)
		return;
	action->sa_sigaction = was->handler;
	if (!was->wants_info)
		action->sa_flags &= ~SA_SIGINFO;
}

static int change(int (*call)(int, const struct sigaction *, struct sigaction *), int signo,
		  const struct sigaction *action, struct sigaction *old)
{
	struct sigaction ours;
	struct handled was;
	int result;

	if (!is_ours(signo))
		return call(signo, action, old);
	begin();
	was = table[signo];
	if (action && is_handler(action->sa_handler)) {
		ours = *action;
		note(signo, action->sa_sigaction, (unsigned long)action->sa_flags);
		ours.sa_sigaction = came;
		ours.sa_flags |= SA_SIGINFO;
		action = &ours;
	}
	result = call(signo, action, old);
	if (result < 0 && action)
		table[signo] = was;
	if (result == 0 && old)
		show(old, &was);
	end();
	return result;
}

/* The system call, by syscall(). */
long shim_handlers_system_call(long signo, const void *action, void *old, long bytes)
{
	const struct kernel_action *chosen = action;
	struct kernel_action ours, *shown = old;
	struct handled was;
	long result;

	if (!is_ours((int)signo) || bytes != KERNEL_SET_BYTES ||
	    (action && shim_pointer_is_bad(action, sizeof(ours))))
		return sys_call6(SYS_rt_sigaction, signo, (long)action, (long)old, bytes, 0, 0);
	begin();
	was = table[signo];
	if (chosen && is_handler((sighandler_t)chosen->handler)) {
		ours = *chosen;
		note((int)signo, (handler)chosen->handler, chosen->flags);
		ours.handler = (uintptr_t)came;
		ours.flags |= SA_SIGINFO;
		chosen = &ours;
	}
	result = sys_call6(SYS_rt_sigaction, signo, (long)chosen, (long)old, bytes, 0, 0);
	/* a bad place for the old one is found when the new one is set */
	if (result < 0 && result != -EFAULT)
		table[signo] = was;
	if (result == 0 && shown && shown->handler == (uintptr_t)came) {
		shown->handler = (uintptr_t)was.handler;
		if (!was.wants_info)
			shown->flags &= ~(unsigned long)SA_SIGINFO;
	}
	end();
	return result;
}

SHIM_EXPORT int sigaction(int signo, const struct sigaction *restrict action,
			  struct sigaction *restrict old)
{
	return change(real.sigaction, signo, action, old);
}

SHIM_EXPORT int __sigaction(int signo, const struct sigaction *action, struct sigaction *old)
{
	return change(real.__sigaction, signo, action, old);
}

/* The older ways differ in flags and mask: libc sets those, for a handler of ours; SA_SIGINFO is
 * added. */
static sighandler_t change_simply(sighandler_t (*call)(int, sighandler_t), int signo,
				  sighandler_t chosen)
{
	struct kernel_action action = { 0 };
	struct handled was;
	sighandler_t old;

	if (!is_ours(signo))
		return call(signo, chosen);
	begin();
	was = table[signo];
	if (is_handler(chosen)) {
		note(signo, with_info(chosen), 0);
		old = call(signo, without_info(came));
		if (old == SIG_ERR) {
			table[signo] = was;
		} else if (ask_action(signo, &action) == 0) {
			atomic_store(&table[signo].restarts, action.flags & SA_RESTART);
			action.flags |= SA_SIGINFO;
			set_action(signo, &action);
		}
	} else {
		old = call(signo, chosen);
	}
	end();
	return old == without_info(came) ? without_info(was.handler) : old;
}

SHIM_EXPORT sighandler_t signal(int signo, sighandler_t chosen)
{
	return change_simply(real.signal, signo, chosen);
}

SHIM_EXPORT sighandler_t bsd_signal(int signo, sighandler_t chosen)
{
	return change_simply(real.bsd_signal, signo, chosen);
}

SHIM_EXPORT sighandler_t ssignal(int signo, sighandler_t chosen)
{
	return change_simply(real.ssignal, signo, chosen);
}

SHIM_EXPORT sighandler_t sysv_signal(int signo, sighandler_t chosen)
{
	return change_simply(real.sysv_signal, signo, chosen);
}

SHIM_EXPORT sighandler_t __sysv_signal(int signo, sighandler_t chosen)
{
	return change_simply(real.__sysv_signal, signo, chosen);
}

SHIM_EXPORT sighandler_t sigset(int signo, sighandler_t chosen)
{
	return change_simply(real.sigset, signo, chosen);
}

SHIM_EXPORT int siginterrupt(int signo, int interrupt)
{
	int result = real.siginterrupt(signo, interrupt);

	if (result == 0 && is_ours(signo))
		atomic_store(&table[signo].restarts, !interrupt);
	return result;
}
