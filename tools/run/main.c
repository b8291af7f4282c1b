/* SPDX-License-Identifier: Apache-2.0 */
/* shmipc-run: start a command under the shim. */
#include "environment.h"
#include "options.h"
#include "supervise.h"

int main(int argc, char **argv)
{
	struct options options = { 0 };

	options_parse(&options, argc, argv);
	if (environment_prepare(&options))
		return EXIT_OWN_FAILURE;
	return options.stats ? supervise(options.command) : execute(options.command);
}
