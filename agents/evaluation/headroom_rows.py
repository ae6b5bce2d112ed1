"""Headroom for people: rows of a table, for the console and for Markdown."""

from dataclasses import dataclass

from rpp_agents.evaluation.headroom import Headroom
from rpp_agents.evaluation.statistics import Interval


@dataclass(frozen=True, kw_only=True)
class HeadroomRow:
    """One line of the table."""

    name: str
    note: str
    value: str
    interval: str  # empty where the number is exact


def headroom_rows(headroom: Headroom) -> tuple[HeadroomRow, ...]:
    """The headroom line by line; oracles never without their placebo."""
    tries = f"{headroom.num_tries} tries"
    rows = [
        _exact("oracle, every prompt", "knows the target", headroom.oracle),
        _exact("its placebo", "non-target candidates", headroom.placebo_oracle),
        _signed("oracle - placebo", "what is not luck", headroom.oracle_minus_placebo),
        _exact(f"oracle, {tries}", "knows the target", headroom.oracle_of_tries),
        _exact("its placebo", "non-target candidates", headroom.placebo_oracle_of_tries),
        _signed("oracle - placebo", "what is not luck", headroom.oracle_of_tries_minus_placebo),
    ]
    told = f"best prompt, next target; {headroom.num_repeated_users} users"
    rows.append(_signed("transfer", told, headroom.transfer))
    variance = headroom.variance
    within = variance.within_instance
    parts: tuple[tuple[str, Interval | None], ...] = (
        ("prompt", variance.prompt),
        ("user x prompt", variance.user_prompt),
        ("rest", variance.rest),
    )
    rows.append(_variance("instance", "between instances", variance.instance))
    for name, part in parts:
        share = "" if part is None or within <= 0 else f", {part.mean / within:.0%}"
        rows.append(_variance(name, f"within instances{share}", part))
    rows.append(_plain("sd of user x prompt", "", headroom.user_prompt_sd))
    rows.append(_signed("static gain at most", "one prompt per user", headroom.static_gain))
    for each in headroom.feedback:
        name = f"feedback, {each.tries} {'tries' if each.tries > 1 else 'try'}"
        rows.append(_signed(name, f"by agreement: {each.score.mean:.3f}", each.gain))
    return tuple(rows)


def _exact(name: str, note: str, value: float) -> HeadroomRow:
    return HeadroomRow(name=name, note=note, value=f"{value:.3f}", interval="")


def _signed(name: str, note: str, found: Interval | None) -> HeadroomRow:
    return _row(name, note, found, "+.3f")


def _plain(name: str, note: str, found: Interval | None) -> HeadroomRow:
    return _row(name, note, found, ".3f")


def _variance(name: str, note: str, found: Interval | None) -> HeadroomRow:
    return _row(f"variance, {name}", note, found, ".4f")


def _row(name: str, note: str, found: Interval | None, form: str) -> HeadroomRow:
    if found is None:
        return HeadroomRow(name=name, note=note, value="cannot be told", interval="")
    low, high = f"{found.low:{form}}", f"{found.high:{form}}"
    interval = "" if found.low == found.high else f"[{low}, {high}]"
    return HeadroomRow(name=name, note=note, value=f"{found.mean:{form}}", interval=interval)
