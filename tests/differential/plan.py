# SPDX-License-Identifier: Apache-2.0
"""A plan as a file: a few settings, then one step a line."""

SETTINGS = ("family", "pairing", "environment")


class Plan:
    def __init__(self, steps, family="tcp", pairing="shim/shim", environment=(), comment=""):
        self.steps = list(steps)
        self.family = family
        self.pairing = pairing
        self.environment = dict(environment)
        self.comment = comment

    def with_steps(self, steps):
        return Plan(steps, self.family, self.pairing, self.environment, self.comment)

    def text(self):
        lines = [f"# {line}" for line in self.comment.splitlines()]
        lines.append(f"family {self.family}")
        lines.append(f"pairing {self.pairing}")
        lines.append("environment " + " ".join(f"{k}={v}" for k, v in
                                               sorted(self.environment.items())))
        return "\n".join(lines + self.steps) + "\n"

    def save(self, path):
        with open(path, "w", encoding="ascii") as file:
            file.write(self.text())


def load(path):
    plan = Plan([])
    comments = []
    with open(path, encoding="ascii") as file:
        for line in file:
            word, _, rest = line.strip().partition(" ")
            if word == "#":
                comments.append(rest)
            elif word == "environment":
                plan.environment = dict(part.split("=", 1) for part in rest.split())
            elif word in SETTINGS:
                setattr(plan, word, rest)
            elif word:
                plan.steps.append(line.strip())
    plan.comment = "\n".join(comments)
    return plan


def units(steps):
    """For each step the number of its unit, and how many there are: an order that is not waited for
    can only be left out together with its collection, a cork with its release, an exit with the wait for it."""
    numbers, waiting, count = [], {}, 0
    for step in steps:
        who, _, order = step.partition(" ")
        if order == "=" and who in waiting:
            numbers.append(waiting.pop(who))
            continue
        if order.startswith("&"):
            waiting[who] = count
        if order.startswith("exit"):
            waiting[who[0] + " wait"] = count
        elif step in waiting:
            numbers.append(waiting.pop(step))
            continue
        if order.endswith("CORK 1"):
            waiting[step[:-1]] = count
        elif order.endswith("CORK 0") and step[:-1] in waiting:
            numbers.append(waiting.pop(step[:-1]))
            continue
        numbers.append(count)
        count += 1
    return numbers, count
