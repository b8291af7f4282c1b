# SPDX-License-Identifier: Apache-2.0
"""Where a step happens."""

import functools


def at_a_place(step):
    """A step that begins with an idle actor and a slot of a connection that it holds: they are
    chosen here.  Where nobody is idle there is no such step."""
    @functools.wraps(step)
    def somewhere(self, *arguments, **named):
        place = self.place()
        return bool(place) and step(self, *place, *arguments, **named)
    return somewhere
