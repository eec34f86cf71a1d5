"""The names of snapshot rules, and which part of a rule has made a snapshot due."""

from eventfleet.snapshot_rules.rules import Age, Both, Either, Not, Rule, SinceSnapshot


def rule_name(rule: Rule) -> str:
    """The kinds of rules that it is made of, without their numbers: `every`, `on & ~after`.

    A rule of a domain's own has its class's name.
    """
    match rule:
        case Either(left, right):
            return f"{rule_name(left)} | {rule_name(right)}"
        case Both(left, right):
            return " & ".join(map(_in_brackets, (left, right)))
        case Not(inner):
            return f"~{_in_brackets(inner)}"
        case Age():
            return "after"
    return type(rule).__name__


def cause(rule: Rule, since: SinceSnapshot) -> str:
    """The name of a rule that holds; of `a | b` that of the first side that holds."""
    if isinstance(rule, Either):
        return cause(rule.left if rule.left.holds(since) else rule.right, since)
    return rule_name(rule)


def _in_brackets(rule: Rule) -> str:
    name = rule_name(rule)
    return f"({name})" if isinstance(rule, Either) else name
