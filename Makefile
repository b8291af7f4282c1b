# SPDX-License-Identifier: Apache-2.0
# Plain GNU make.  `make help` lists the targets and the variables that they honour.

VERSION  := 0.1.0
SONAME   := libshmipc.so.0

MODE     ?= release
BUILD    ?= build
PREFIX   ?= /usr/local
DESTDIR  ?=
CC       ?= cc
AR       ?= ar
CFLAGS   ?= -O2 -g
LDFLAGS  ?=
PYTHON   ?= python3
WERROR   ?= 0
V        ?= 0
ARGS     ?=

# Objects of different modes never meet: release products lie in $(BUILD), others in $(BUILD)/MODE.
OUT      := $(if $(filter release,$(MODE)),$(BUILD),$(BUILD)/$(MODE))
OBJ      := $(BUILD)/obj/$(MODE)

# ---- flags ------------------------------------------------------------------------------------

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla
BASE     := -std=gnu11 -D_GNU_SOURCE -fvisibility=hidden -fno-common -fPIC $(WARNINGS) \
	-I. -Icore/include
FATAL    := $(if $(filter-out 0,$(WERROR)),-Werror)

SAN_asan    := -fsanitize=address -fno-omit-frame-pointer
SAN_ubsan   := -fsanitize=undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
SAN_tsan    := -fsanitize=thread -fno-omit-frame-pointer
SAN_fuzz    := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined \
	-fno-omit-frame-pointer
SAN_release :=
ifeq ($(filter $(MODE),release asan ubsan tsan fuzz),)
$(error MODE must be release, asan, ubsan, tsan or fuzz, not '$(MODE)')
endif
SAN      := $(SAN_$(MODE))

COMPILE   = $(CC) $(BASE) $(FATAL) $(CFLAGS) $(SAN) $(EXTRA) $(CPPFLAGS) -MMD -MP -c -o $@ $<
LINK_LIBS := -Wl,--as-needed -pthread -lm

# The shim defines libc's names: no macro may rename or redirect them under its feet.
$(OBJ)/preload/%.o: EXTRA := -U_FORTIFY_SOURCE -U_FILE_OFFSET_BITS
# ThreadSanitizer's own start maps memory, which comes to our entry points before it can judge any.
$(OBJ)/preload/calls_memory.o: EXTRA += -fno-sanitize=thread
$(OBJ)/core/reach.o: EXTRA := -fno-sanitize=thread

ifeq ($(V),1)
Q   :=
say  = @:
else
Q   := @
say  = @printf '  %-7s %s\n' '$(1)' '$(2)'
endif

# ---- sources ----------------------------------------------------------------------------------

objects   = $(patsubst %.c,$(OBJ)/%.o,$(1))

CORE_SRC    := $(wildcard core/*.c)
IPC_SRC     := $(wildcard core/ipc/*.c)
PRELOAD_SRC := $(wildcard preload/*.c)
RUN_SRC     := $(wildcard tools/run/*.c)
STAT_SRC    := $(wildcard tools/stat/*.c)
BENCH_SRC   := $(wildcard tools/bench/*.c)
EXAMPLES_SRC := $(wildcard tools/examples/*_client.c tools/examples/*_server.c)
LOAD_SRC    := $(wildcard tools/load/*.c)
CASES_SRC   := $(wildcard tests/conformance/*.c tests/conformance/lib/*.c)
RUNNER_SRC  := $(wildcard tests/conformance/runner/*.c)
DIFFER_SRC  := $(wildcard tests/differential/worker/*.c)
FUZZ_SRC    := $(wildcard tests/fuzz/fuzz_*.c)
STRESS_SRC  := $(wildcard tests/stress/*.c)
UNIT_SRC    := $(wildcard tests/unit/test_*.c)
SHIM_UNIT_SRC := $(wildcard tests/unit/preload/test_*.c)
IPC_UNIT_SRC := $(wildcard tests/unit/ipc/test_*.c)

LIB_A    := $(OUT)/libshmipc.a
LIB_SO   := $(OUT)/libshmipc.so
SHIM     := $(OUT)/libshmipc_shim.so
RUN      := $(OUT)/shmipc-run
STAT     := $(OUT)/shmipc-stat
BENCH    := $(OUT)/shmipc-bench
EXAMPLES := $(patsubst tools/examples/%.c,$(OUT)/examples/%,$(EXAMPLES_SRC))
LOAD     := $(OUT)/benchapps/load
CASES    := $(OUT)/conformance/cases
RUNNER   := $(OUT)/conformance/run
BARE     := $(OUT)/conformance/bare_instruction.so
DIFFER   := $(OUT)/differential/worker $(OUT)/differential/wrong.so
UNIT     := $(patsubst tests/unit/%.c,$(OUT)/unit/%,$(UNIT_SRC)) \
	$(patsubst tests/unit/preload/%.c,$(OUT)/unit/preload/%,$(SHIM_UNIT_SRC)) \
	$(patsubst tests/unit/ipc/%.c,$(OUT)/unit/ipc/%,$(IPC_UNIT_SRC))
FUZZERS  := $(patsubst tests/fuzz/%.c,$(OUT)/%,$(FUZZ_SRC))
STRESS   := $(patsubst tests/stress/%.c,$(OUT)/stress/%,$(STRESS_SRC))

BINARIES := $(if $(RUN_SRC),$(RUN)) $(if $(STAT_SRC),$(STAT)) $(if $(BENCH_SRC),$(BENCH))
PRODUCTS := $(if $(CORE_SRC),$(LIB_A) $(LIB_SO)) $(if $(wildcard preload/symbols.def),$(SHIM)) $(BINARIES)
CONFORMANCE := $(if $(CASES_SRC),$(CASES)) $(if $(RUNNER_SRC),$(RUNNER))

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all unit-build check unit tools library rendezvous conformance differential apps stress fuzz fuzz-build interop bench demo asan ubsan tsan lint format \
	install uninstall dist clean help setup FORCE

all: $(PRODUCTS) $(EXAMPLES)

# ---- compile and link -------------------------------------------------------------------------

# Rewritten only when the commands change, so that another CC or CFLAGS rebuilds everything.
$(OBJ)/commands: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(CC) $(BASE) $(CFLAGS) $(SAN) $(CPPFLAGS) $(LDFLAGS)' >$@.$$$$; \
	if cmp -s $@.$$$$ $@; then rm -f $@.$$$$; else mv -f $@.$$$$ $@; fi

$(OBJ)/%.o: %.c $(OBJ)/commands
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(COMPILE)

# What lies in core/ipc belongs to the library alone; the shim is linked without it.
$(LIB_A): $(call objects,$(CORE_SRC) $(IPC_SRC))
	@mkdir -p $(@D)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(LIB_SO): $(call objects,$(CORE_SRC) $(IPC_SRC)) core/libshmipc.map
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(SAN) -shared -Wl,-z,now,-z,defs,-soname,$(SONAME) \
		-Wl,--version-script=core/libshmipc.map $(LDFLAGS) -o $@ $(filter %.o,$^) $(LINK_LIBS)
	$(Q)ln -sf $(@F) $(@D)/$(SONAME)

$(OBJ)/exports.map: preload/symbols.def scripts/exports-map
	@mkdir -p $(@D)
	$(call say,GEN,$@)
	$(Q)scripts/exports-map preload/symbols.def >$@

$(SHIM): $(call objects,$(PRELOAD_SRC) $(CORE_SRC)) $(OBJ)/exports.map
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(SAN) -shared -Wl,-z,now,-z,defs,-z,nodelete,-soname,$(@F) \
		-Wl,--version-script=$(OBJ)/exports.map $(LDFLAGS) -o $@ $(filter %.o,$^) \
		-Wl,--as-needed -ldl -lpthread

link_program = $(CC) $(CFLAGS) $(SAN) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^)

$(RUN): $(call objects,$(RUN_SRC)) $(LIB_A)
$(STAT): $(call objects,$(STAT_SRC)) $(LIB_A)
$(BENCH): $(call objects,$(BENCH_SRC)) $(LIB_A)
# These know nothing of the project: they link no library of ours.
$(CASES): $(call objects,$(CASES_SRC))
$(RUNNER): $(call objects,$(RUNNER_SRC))
$(LOAD): $(call objects,$(LOAD_SRC))
$(OUT)/differential/worker: $(call objects,$(DIFFER_SRC))
$(CASES): | $(BARE)
$(RUN) $(STAT) $(BENCH) $(CASES) $(RUNNER) $(LOAD) $(OUT)/differential/worker:
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(link_program) $(LINK_LIBS)

$(OUT)/examples/best_client $(OUT)/examples/best_server: $(OBJ)/tools/examples/message.o
$(OUT)/examples/%: $(OBJ)/tools/examples/%.o $(LIB_A)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(link_program) $(LINK_LIBS)

$(BARE): $(OBJ)/tests/bare_instruction.o
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) -shared $(LDFLAGS) -o $@ $^

$(OUT)/differential/wrong.so: $(OBJ)/tests/differential/wrong/wrong.o
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(SAN) -shared $(LDFLAGS) -o $@ $^ -ldl

# MODE=fuzz, CC=clang
$(FUZZERS): $(OUT)/%: $(OBJ)/tests/fuzz/%.o $(OBJ)/tests/fuzz/peer.o $(LIB_A)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) -fsanitize=fuzzer,address,undefined $(LDFLAGS) -o $@ $^ $(LINK_LIBS)

fuzz-build: $(FUZZERS)

$(OUT)/stress/library_kill: $(call objects,tests/unit/ipc/killing.c tests/unit/ipc/peer.c)

$(OUT)/stress/%: $(OBJ)/tests/stress/%.o $(LIB_A)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(link_program) $(LINK_LIBS)

# A unit test may name further sources on a line `// LINK: preload/a.c preload/b.c` near its top.
linked = $(shell sed -n '1,5s,^// LINK: *,,p' $(1))
define unit_rule
$(OUT)/unit/$(1): $(OBJ)/tests/unit/$(1).o \
	$(call objects,$(call linked,tests/unit/$(1).c)) $(if $(CORE_SRC),$(LIB_A))
endef
$(foreach t,$(patsubst tests/unit/%.c,%,$(UNIT_SRC) $(SHIM_UNIT_SRC) $(IPC_UNIT_SRC)),$(eval $(call unit_rule,$(t))))

# This one counts allocations.
$(OUT)/unit/ipc/test_allocations: LDFLAGS += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc

$(UNIT):
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(link_program) -lcmocka $(LINK_LIBS)

unit-build: $(UNIT)

# ---- tests ------------------------------------------------------------------------------------

setup:
	@scripts/setup check

unit: $(UNIT)
	@scripts/run-unit $(MODE) $(UNIT)

conformance: all $(CONFORMANCE)
	@if [ -x $(RUNNER) ]; then $(RUNNER) $(ARGS); \
	else echo 'conformance: no runner was built' >&2; echo '0 passed, 1 failed'; exit 1; fi

tools: all
	@BUILD=$(OUT) CC='$(CC)' scripts/run-scripts tests/tools

library: all
	@BUILD=$(OUT) CC='$(CC)' scripts/run-scripts tests/library

rendezvous: all
	@BUILD=$(abspath $(OUT)) tests/rendezvous/run $(ARGS)

differential: all $(DIFFER)
	@BUILD=$(abspath $(OUT)) tests/differential/run $(ARGS)

apps: all
	@SHMIPC_SHIM=$(abspath $(SHIM)) tests/apps/run-all $(ARGS)

check: setup
	@$(MAKE) --no-print-directory all unit-build $(CONFORMANCE) $(DIFFER)
	@MAKE='$(MAKE)' BUILD=$(OUT) scripts/check

stress: all $(STRESS) $(DIFFER) $(LOAD)
	@STRESS_DIR=$(abspath $(OUT))/stress tests/stress/run $(ARGS)

fuzz:
	@scripts/setup check
	@$(MAKE) --no-print-directory MODE=fuzz CC=clang CFLAGS='-O1 -g' fuzz-build
	@BUILD=$(BUILD) tests/fuzz/run $(ARGS)

interop: all
	@BUILD=$(OUT) CC='$(CC)' tests/interop/run '$(GO_PEER)'

bench: all
	@BUILD=$(OUT) scripts/bench $(ARGS)

.PHONY: bench-apps
bench-apps: all $(LOAD)
	@BUILD=$(abspath $(OUT)) scripts/bench-apps $(ARGS)

demo:
	@scripts/setup demo
	@$(MAKE) --no-print-directory all
	@BUILD=$(OUT) scripts/demo $(ARGS)

asan ubsan tsan:
	@$(MAKE) --no-print-directory MODE=$@ CFLAGS='-O1 -g' unit

SANITIZED := asan-conformance ubsan-conformance tsan-conformance
.PHONY: $(SANITIZED)
$(SANITIZED): %-conformance:
	@$(MAKE) --no-print-directory MODE=$* CFLAGS='-O1 -g' \
		$(addprefix $(BUILD)/$*/,libshmipc_shim.so conformance/cases conformance/run)
	@scripts/run-sanitized $* $(BUILD)/$*/conformance/run

lint:
	@scripts/lint/all $(BUILD)

format:
	@scripts/lint/files '*.c' '*.h' | xargs -r ls -d 2>/dev/null | \
		xargs -r clang-format -i

# ---- install ----------------------------------------------------------------------------------

MAN1 := $(wildcard docs/*.1)
MAN3 := $(wildcard docs/*.3)
MAN7 := $(wildcard docs/*.7)
ROOT := $(DESTDIR)$(PREFIX)

install: all
	@for f in $(SHIM) $(LIB_SO) $(LIB_A) $(BINARIES); do \
		[ -e $$f ] || { echo "install: $$f is not built" >&2; exit 1; }; done
	$(Q)install -d $(ROOT)/bin $(ROOT)/lib/pkgconfig $(ROOT)/include \
		$(ROOT)/share/man/man1 $(ROOT)/share/man/man3 $(ROOT)/share/man/man7
	$(Q)install -m 755 $(SHIM) $(ROOT)/lib/
	$(Q)install -m 755 $(LIB_SO) $(ROOT)/lib/$(SONAME)
	$(Q)ln -sf $(SONAME) $(ROOT)/lib/libshmipc.so
	$(Q)install -m 644 $(LIB_A) $(ROOT)/lib/
	$(Q)install -m 755 $(BINARIES) $(ROOT)/bin/
	$(Q)install -m 644 core/include/shmipc.h $(ROOT)/include/
	$(Q)for f in $(MAN1); do install -m 644 $$f $(ROOT)/share/man/man1/ || exit 1; done
	$(Q)for f in $(MAN3); do install -m 644 $$f $(ROOT)/share/man/man3/ || exit 1; done
	$(Q)for f in $(MAN7); do install -m 644 $$f $(ROOT)/share/man/man7/ || exit 1; done
	$(Q)scripts/pkgconfig $(PREFIX) $(VERSION) >$(ROOT)/lib/pkgconfig/shmipc.pc
	$(Q)chmod 644 $(ROOT)/lib/pkgconfig/shmipc.pc

uninstall:
	$(Q)rm -f $(addprefix $(ROOT)/lib/,libshmipc_shim.so libshmipc.so $(SONAME) libshmipc.a \
		pkgconfig/shmipc.pc) $(ROOT)/include/shmipc.h \
		$(addprefix $(ROOT)/bin/,shmipc-run shmipc-stat shmipc-bench) \
		$(addprefix $(ROOT)/share/man/man1/,$(notdir $(MAN1))) \
		$(addprefix $(ROOT)/share/man/man3/,$(notdir $(MAN3))) \
		$(addprefix $(ROOT)/share/man/man7/,$(notdir $(MAN7)))

dist:
	@mkdir -p $(BUILD)
	git archive --format=tar.gz --prefix=shmipc-c-$(VERSION)/ \
		-o $(BUILD)/shmipc-c-$(VERSION).tar.gz HEAD

clean:
	rm -rf $(BUILD)

help:
	@cat scripts/help.txt

-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
