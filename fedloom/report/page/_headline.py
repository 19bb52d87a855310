"""The first thing that is read: what became of the model, and what has to be known before it is believed."""

from __future__ import annotations

import math
import re

from ._clients import better_off
from ._curves import best_of, evaluated, held_out_metric, judged_by, series
from ._data import RunRecord, amount
from ._html import Html, callout, tag, tiles
from ._numbers import Metric, bytes_text, counted, metric_of, number, seconds_text

_GUARD = re.compile(r"The model is worse than the one the run started from|Rolled back to")
_STATES = {"finished": "Finished", "running": "Running", "interrupted": "Interrupted", "stopped": "Stopped", "failed": "Failed"}
_METHODS = {"fedavg": "FedAvg", "fedsgd": "FedSGD", "fedprox": "FedProx", "scaffold": "SCAFFOLD", "mime": "Mime", "mimelite": "MimeLite"}


class Course:
    """A held-out metric from its first evaluation to its last."""

    def __init__(self, run: RunRecord, name: str):
        self.metric: Metric = held_out_metric(run, name)
        self.points = series(run.rounds, f"eval_{name}")
        (self.first_round, self.before), (self.last_round, self.after) = self.points[0], self.points[-1]
        self.best = best_of(self.points, self.metric)

    @property
    def is_whole(self) -> bool:
        """Whether there are two evaluations to compare."""
        return len(self.points) > 1

    @property
    def worse(self) -> bool:
        """Whether the model was better before."""
        return self.metric.better(self.before, self.after)

    def from_to(self) -> tuple[str, str]:
        """Both values, with digits that tell them apart."""
        decimals = self.metric.decimals(self.before, self.after)
        return self.metric.text(self.before, decimals), self.metric.text(self.after, decimals)

    def sentence(self) -> str:
        """What happened, without a full stop."""
        before, after = self.from_to()
        if not math.isfinite(self.after) and math.isfinite(self.before):
            return f"training diverged: held-out {self.metric.words} was {before}, and is {after} now"
        if before == after:
            return f"held-out {self.metric.words} stayed at {after}"
        did = "rose" if self.after > self.before else "fell"
        return f"held-out {self.metric.words} {did} from {before} to {after}"


def headline(run: RunRecord) -> Html:
    """Title, summary and big numbers."""
    name = judged_by(run)
    course = Course(run, name) if name else None
    state = str(run.status.get("status") or "")
    kind = "good" if state == "finished" else "bad" if state == "failed" else "open"
    label = _STATES.get(state, state)
    progress = f"{number(run.done)} of {counted(run.planned, 'round')}" if run.done < run.planned else counted(run.done, "round")
    badge = tag("p", tag("span", label, class_=f"badge {kind}") if label else Html(), f" {run.name} · {progress}", class_="over")
    return tag(
        "header",
        badge,
        tag("h1", title(run, course)),
        tag("p", _summary(run, course), class_="lead"),
        *_remarks(run, course),
        _numbers(run, course),
    )


def title(run: RunRecord, course: Course | None) -> str:
    """The outcome in one sentence."""
    so_far = f"After {run.done} of {counted(run.planned, 'round')}: " if run.done < run.planned else ""
    if course is None:
        said = f"{'' if so_far else 'Trained for ' + counted(run.done, 'round') + ', and '}not evaluated on held-out data"
    elif not course.is_whole:
        model = "the start model" if course.first_round == 0 else f"the model of round {course.first_round:,.0f}"
        said = f"only {model} was evaluated, with a held-out {course.metric.words} of {course.metric.text(course.before)}"
    else:
        said = course.sentence() + (", so the model became worse" if course.worse and math.isfinite(course.after) else "")
    return so_far + (said if so_far else said[:1].upper() + said[1:])


def _summary(run: RunRecord, course: Course | None) -> str:
    config = run.config
    method = config.get("algorithm") or ""
    method = str(method.get("name", "") if isinstance(method, dict) else method)
    size = config.get("parameters")
    model = f"A model of {_large(size)} weights" if isinstance(size, int) else "A model"
    by = f" by {_METHODS.get(method, method)}" if method else ""
    cohort, population = config.get("cohort_size"), config.get("num_clients")
    of = f", {number(cohort)} of {counted(population, 'client')} in each" if isinstance(cohort, int) and isinstance(population, int) else ""
    sentences = [f"{model} was trained{by} for {counted(run.done, 'round')}{of}."]
    if course and course.metric.name != "loss" and "loss" in evaluated(run.rounds):
        loss = Course(run, "loss")
        if loss.is_whole:
            sentence = loss.sentence()
            sentences.append(f"{sentence[:1].upper()}{sentence[1:]}.")
    if course and course.best and course.metric.better(course.best[1], course.after):
        best, value = course.best[0], course.metric.text(course.best[1])
        at = "at the start" if best == 0 else f"after round {best:,.0f}"
        sentences.append(f"The best model was the one {at}, with {value}.")
    if course and course.is_whole and course.first_round:
        sentences.append(f"The first evaluation was after round {course.first_round:,.0f}.")
    if course and course.is_whole and course.last_round < run.done:
        sentences.append(f"The newest evaluation was after round {course.last_round:,.0f}.")
    losses = series(run.rounds, "loss")
    if course is None and len(losses) > 1:
        sentences.append(f"Its loss on the data it was trained on went from {number(losses[0][1])} to {number(losses[-1][1])}.")
    return " ".join(sentences)


def _large(count: float) -> str:
    """A number of weights."""
    return f"{number(count / 1e9)} billion" if count >= 1e9 else f"{number(count / 1e6)} million" if count >= 1e6 else number(count)


def _remarks(run: RunRecord, course: Course | None) -> list[Html]:
    found, reason = [], str(run.status.get("reason") or "")
    state = run.status.get("status")
    because = f" ({reason})" if reason else ""
    resume = tag("code", f"fedloom resume {run.name}")
    if state == "interrupted":
        found.append(callout("note", f"Interrupted{because} after round {run.done}; what was done is saved. Go on with ", resume, "."))
    elif state == "failed":
        found.append(callout("bad", f"The run failed after round {run.done}{': ' + reason if reason else '.'}"))
    elif state == "stopped":
        found.append(callout("bad", f"Stopped by the guard after round {run.done}{because}."))
    elif state == "running":
        found.append(callout("note", f"The run was still going on when this page was written, after round {run.done}."))
    worse = bool(course and course.is_whole and course.worse)
    best = course.best if course and worse else None
    advice = f" Use the one of round {best[0]:,.0f}, in the folder best." if course and best and best[0] > course.first_round else ""
    if guard := [told for told in run.warnings if _GUARD.match(told.text)]:
        times = "once," if len(guard) == 1 else f"{number(len(guard))} times, last"
        words = f"The guard warned {times} in round {number(guard[-1].round)}: {guard[-1].text}"
        found.append(callout("bad" if worse else "note", words, advice))
    elif course and worse:
        words = f"By held-out {course.metric.words} the newest model is worse than the one the run began with.{advice}"
        found.append(callout("bad", words))
    if course is None:
        found.append(callout("note", "Whether the model became better is not known: give the run held-out data to evaluate it on."))
    return found


def _numbers(run: RunRecord, course: Course | None) -> Html:
    large, small = [], []
    courses = [course] if course else []
    if course and course.metric.name != "loss" and "loss" in evaluated(run.rounds):
        courses.append(Course(run, "loss"))
    for one in courses:
        what = f"Held-out {one.metric.words}"
        if not one.is_whole:
            remark = f"after round {one.first_round:,.0f}, the only evaluation"
            large.append(_tile(what, tag("b", one.metric.text(one.before)), remark, "open"))
            continue
        before, after = one.from_to()
        kind = "bad" if one.worse else "good" if one.metric.better(one.after, one.before) else "open"
        value = Html(tag("span", before) + tag("i", "→", aria_label="to") + tag("b", after))
        rounds = f"from round {one.first_round:,.0f} to {one.last_round:,.0f}"
        large.append(_tile(what, value, rounds, kind, one.metric.change(one.before, one.after)))
    if not large and (training := series(run.rounds, "loss")):
        metric = metric_of("loss", [])
        large.append(_tile("Training loss", tag("b", metric.text(training[-1][1])), f"in round {training[-1][0]:.0f}", "open"))
    seconds = sum(amount(row, "seconds") + amount(row, "evaluate_seconds") for row in run.timing)
    traffic = sum(amount(row, "bytes_up") + amount(row, "bytes_down") for row in run.rounds)
    updates = sum(amount(row, "num_clients") for row in run.rounds)
    if clients := better_off(run):
        small.append(("Clients better off", f"{number(clients[0])} of {number(clients[1])}", "held out"))
    if updates:
        small.append(("Client updates", number(updates), "added up over all rounds"))
    if traffic:
        small.append(("Sent", bytes_text(traffic), "up and down"))
    if seconds:
        small.append(("Time", seconds_text(seconds), "with evaluation"))
    spent = series(run.rounds, "epsilon")
    if run.private and spent:
        limit = float(run.budget.get("epsilon") or math.nan)
        small.append(("Privacy spent", f"ε = {number(spent[-1][1])}", f"of {number(limit)}" if math.isfinite(limit) else ""))
    return Html(tag("div", *large, class_="outcomes") + (tiles(small) if small else Html()))


def _tile(what: str, value: Html, remark: str, kind: str, change: str = "") -> Html:
    chip = tag("span", change, class_=f"change {kind}") if change else Html()
    return tag(
        "div",
        tag("p", what, class_="what"),
        tag("p", value, class_="from-to"),
        tag("p", chip, f" {remark}", class_="remark"),
        class_="outcome",
    )
